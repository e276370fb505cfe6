import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { listeningIn, listeningOf } from './listening-in.ts'

const HEAD =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'

test('sockets that listen, of both kinds, wide open ones first', () => {
  const tables = [
    HEAD,
    '   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1',
    '   1: 020014AC:0BB8 030014AC:C350 01 00000000:00000000 00:00000000 00000000     0        0 2',
    '   2: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3',
    HEAD,
    '   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4',
    '   1: 00000000000000000000000000000000:2382 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 5',
    '   2: 0000000000000000FFFF00000100007F:2383 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 6',
    'what is no table',
  ].join('\n')
  expect(listeningOf(tables)).toEqual([
    '0.0.0.0:3000',
    '[::]:9090',
    '127.0.0.1:8080',
    '[::1]:8080',
    '[::ffff:7f00:1]:9091',
  ])
})

test('of this very namespace', async () => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const all = await import('node:fs').then(({ readFileSync }) =>
    readFileSync('/proc/self/net/tcp', 'utf8'),
  )
  const mine = all
    .split('\n')
    .filter((line) => line.includes(`:${port.toString(16).toUpperCase().padStart(4, '0')} `))
  expect(listeningOf(mine.join('\n'))).toContain(`127.0.0.1:${port}`)
  server.close()
})

test('a namespace that is gone is an error', async () => {
  await expect(listeningIn('/run/netns/there-is-none')).rejects.toThrow(/nsenter/)
})
