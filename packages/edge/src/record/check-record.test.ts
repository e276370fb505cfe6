import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { CheckedKind } from './check-record.ts'
import { checkRecord } from './check-record.ts'

const goodMachine = {
  id: '00000000000001',
  app: 'shop',
  host: 'aaaaaaaaaaaaaa',
  region: 'ams',
  privateIpv4: '10.210.4.2',
  services: [
    {
      protocol: 'tcp',
      internal_port: 8080,
      ports: [{ port: 80, handlers: ['http'], force_https: false }],
      checks: [],
      concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
    },
  ],
  routed: true,
  status: { state: 'started', checks: [] },
}

describe('checkRecord', () => {
  test('what the server writes is good', () => {
    expect(checkRecord('machine', goodMachine).kind).toBe('good')
    expect(checkRecord('machine', { ...goodMachine, status: null }).kind).toBe('good')
    expect(checkRecord('settings', { domain: 'apps.example.com', clientNetworks: [] }).kind).toBe(
      'good',
    )
  })

  test('what is not is named by its field', () => {
    const bad = (changes: object) => {
      const checked = checkRecord('machine', { ...goodMachine, ...changes })
      return checked.kind === 'bad' ? checked.why : null
    }
    expect(bad({ privateIpv4: '10.0.0.1 weight 256' })).toBe('privateIpv4 is "10.0.0.1 weight 256"')
    expect(bad({ id: '1' })).toBe('id is "1"')
    expect(bad({ status: { state: 'started' } })).toBe('status.checks is missing')
    expect(bad({ services: [{ internal_port: '80' }] })).toContain('a service is')
    expect(bad({ routed: 1 })).toBe('routed is 1')
    expect(checkRecord('settings', { domain: 'a b', clientNetworks: [] })).toEqual({
      kind: 'bad',
      why: 'domain is "a b"',
    })
    expect(checkRecord('host', null)).toEqual({ kind: 'bad', why: 'it is null' })
  })

  test('no port or option is text that would mean something to the kernel or to HAProxy', () => {
    const [service] = goodMachine.services
    const kind = (port: object) => {
      const ports = [{ port: 9000, handlers: ['tls'], force_https: false, ...port }]
      return checkRecord('machine', { ...goodMachine, services: [{ ...service, ports }] }).kind
    }
    expect(kind({ end_port: 9009, tls_options: { alpn: ['h2'], versions: ['TLSv1.3'] } })).toBe(
      'good',
    )
    expect(
      kind({ http_options: { idle_timeout: 5, response: { headers: { a: 'b', c: false } } } }),
    ).toBe('good')
    for (const bad of [
      { port: '9000 } accept' },
      { end_port: 8999 },
      { end_port: '9001' },
      { tls_options: { alpn: ['h2] *'] } },
      { tls_options: { versions: ['SSLv3'] } },
      { http_options: { idle_timeout: '5' } },
      { http_options: { response: { headers: { a: 1 } } } },
      { http_options: 7 },
      { http_options: { replay_cache: { '/': 60 } } },
      { http_options: { replay_cache: [{ path_prefix: '/' }] } },
      // Of a version to come.
      { handlers: ['tls', 'only_members'] },
    ])
      expect(kind(bad), JSON.stringify(bad)).toBe('bad')
    const services = [{ ...service, protocol: 'quic' }]
    expect(checkRecord('machine', { ...goodMachine, services }).kind).toBe('bad')
  })

  test('whatever it is, it is answered', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<CheckedKind>('settings', 'host', 'app', 'machine'),
        fc.anything(),
        (kind, value) => {
          expect(['good', 'bad']).toContain(checkRecord(kind, value).kind)
        },
      ),
    )
  })
})
