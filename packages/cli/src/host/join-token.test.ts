import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { expect, test } from 'vitest'
import { joinTicket, readJoinTicket } from './join-token.ts'

function authority(): string {
  const key = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    '/dev/null',
  ]
  const argv = ['req', '-x509', ...key, '-subj', '/CN=authority', '-days', '1']
  return execFileSync('openssl', argv, { stdio: ['ignore', 'pipe', 'ignore'] }).toString()
}

test('a ticket carries the authority by which a certificate is checked', () => {
  for (let n = 0; n < 8; n++) {
    const ca = authority()
    const { secret, authority: key } = readJoinTicket(joinTicket('roost_join_abc-_9', ca))
    expect(secret).toBe('roost_join_abc-_9')
    expect(new X509Certificate(ca).verify(key)).toBe(true)
    expect(new X509Certificate(authority()).verify(key)).toBe(false)
  }
})

test('what is no ticket is refused with what to do', () => {
  const forms = ['', 'roost_join_abc', 'roost_join_abc.short', `a b.${'A'.repeat(44)}`]
  for (const text of [...forms, `roost_join_abc.${'B'.repeat(44)}`])
    expect(() => readJoinTicket(text)).toThrow('no join token')
})
