import { machineConfigInput } from '@roost/api'
import { checksOf } from '@roost/core'
import { describe, expect, test } from 'vitest'
import { machineConfig } from './config.ts'
import { configReply, goDuration } from './config-reply.ts'

const read = (input: object) =>
  machineConfig(machineConfigInput.parse({ image: 'registry.internal/shop', ...input }))
const service = (input: object) =>
  read({ services: [{ protocol: 'tcp', internal_port: 8080, ...input }] }).services[0]

describe('machineConfig', () => {
  test('gives a service the defaults of the Machines API', () => {
    expect(service({})).toEqual({
      protocol: 'tcp',
      internal_port: 8080,
      ports: [],
      checks: [],
      concurrency: { type: 'connections', soft_limit: 20, hard_limit: null },
      autostop: 'off',
      autostart: false,
      min_machines_running: 0,
    })
  })

  test('what runs in gVisor is one program: several would run beside it, in none', () => {
    expect(read({ isolation: 'gvisor' }).isolation).toBe('gvisor')
    const containers = [{ name: 'app', image: 'registry.internal/shop' }]
    for (const several of [{ containers }, { processes: [{ cmd: ['a'] }] }])
      expect(() => read({ isolation: 'gvisor', ...several })).toThrow(
        'config.isolation: a machine of several programs can not run in gVisor',
      )
  })

  test('reads how replays are kept for sessions, and refuses what no edge could go by', () => {
    const rule = { path_prefix: '/app', ttl_seconds: 60, type: 'cookie', name: 'sid' }
    const cached = (...replay_cache: object[]) =>
      service({ ports: [{ port: 80, handlers: ['http'], http_options: { replay_cache } }] })
        ?.ports[0]?.http_options
    expect(cached(rule, { ...rule, path_prefix: 'a.test/', allow_bypass: true })).toEqual({
      replay_cache: [rule, { ...rule, path_prefix: 'a.test/', allow_bypass: true }],
    })
    expect(cached()).toBeUndefined()
    expect(() => cached({ ...rule, path_prefix: 'app' })).toThrow('replay_cache[0].path_prefix')
    expect(() => cached(rule, { ...rule, ttl_seconds: 9 })).toThrow('replay_cache[1].ttl_seconds')
    expect(() => cached({ ...rule, name: 'a b' })).toThrow('replay_cache[0].name')
    expect(() => cached(...Array.from({ length: 21 }, () => rule))).toThrow('at most 20')
  })

  test('reads autostop in both forms, and durations in both', () => {
    expect(service({ autostop: true })?.autostop).toBe('stop')
    expect(service({ autostop: false })?.autostop).toBe('off')
    expect(service({ autostop: 'suspend' })?.autostop).toBe('suspend')
    expect(
      service({
        checks: [{ type: 'tcp', interval: '1m30s', timeout: 2_000_000_000, grace_period: '5s' }],
      })?.checks,
    ).toEqual([
      { type: 'tcp', port: 8080, interval_ms: 90_000, timeout_ms: 2000, grace_period_ms: 5000 },
    ])
  })

  test('takes a hard limit alone for the soft one, too', () => {
    expect(service({ concurrency: { type: 'requests', hard_limit: 50 } })?.concurrency).toEqual({
      type: 'requests',
      soft_limit: 50,
      hard_limit: 50,
    })
  })

  test('knows sizes by name, and gives memory by the number of cpus', () => {
    expect(read({ size: 'performance-2x' }).guest).toEqual({
      cpu_kind: 'performance',
      cpus: 2,
      memory_mb: 4096,
    })
    expect(read({ guest: { cpus: 4 } }).guest.memory_mb).toBe(1024)
    expect(read({ guest: { cpus: 2, memory_mb: 300 } }).guest.memory_mb).toBe(300)
  })

  test.each([
    [{ size: 'huge' }, 'config.size: huge is no size such as shared-cpu-1x'],
    [{ guest: { cpus: 3 } }, 'config.guest.cpus: invalid number of CPUs 3 for shared'],
    [{ stop_config: { timeout: '10m' } }, 'config.stop_config.timeout: at most 300s'],
    [
      { services: [{ protocol: 'tcp', internal_port: 1, ports: [{ handlers: ['tls'] }] }] },
      'config.services[0].ports[0].port is missing',
    ],
    [
      {
        services: [
          { protocol: 'tcp', internal_port: 1, ports: [{ port: 1, handlers: ['edge_http'] }] },
        ],
      },
      'config.services[0].ports[0].handlers: edge_http is not supported',
    ],
    [
      {
        services: [{ protocol: 'tcp', internal_port: 1, ports: [{ start_port: 9, end_port: 8 }] }],
      },
      'config.services[0].ports[0]: the range ends at 8, before it begins',
    ],
    [
      { services: [{ protocol: 'tcp', internal_port: 1, ports: [{ port: 22 }] }] },
      'config.services[0].ports[0]: port 22 belongs to SSH of the hosts themselves: choose another',
    ],
    [
      {
        services: [
          {
            protocol: 'tcp',
            internal_port: 1,
            ports: [
              { port: 9, handlers: ['http'], http_options: { response: { headers: { a: 1 } } } },
            ],
          },
        ],
      },
      'config.services[0].ports[0].http_options.response.headers: a is neither text that can be sent nor false',
    ],
    [
      {
        services: [
          {
            protocol: 'tcp',
            internal_port: 1,
            ports: [{ port: 9, handlers: ['tls'], tls_options: { versions: ['SSLv3'] } }],
          },
        ],
      },
      'config.services[0].ports[0].tls_options.versions: "SSLv3" is neither TLSv1.2 nor TLSv1.3',
    ],
    [{ checks: { alive: { type: 'tcp' } } }, 'config.checks.alive.port is missing'],
    [
      { checks: { 'servicecheck-00-tcp-1': { port: 1 } } },
      'config.checks: a check can not be called "servicecheck-00-tcp-1": names have at most 100 characters and do not begin with servicecheck-',
    ],
    [
      { checks: { alive: { type: 'http', port: 1, path: 'up' } } },
      'config.checks.alive.path: "up" does not begin with / or has a character that must be escaped',
    ],
    [
      { checks: { alive: { type: 'http', port: 1, method: 'GET /' } } },
      'config.checks.alive.method: "GET /" is no method',
    ],
    [
      {
        checks: {
          alive: { type: 'http', port: 1, headers: [{ name: 'x', values: ['a\r\nb: c'] }] },
        },
      },
      'config.checks.alive.headers: the value of x can not be sent',
    ],
  ])('refuses %o', (input, text) => {
    expect(() => read(input)).toThrow(text)
  })

  test('keeps of a check that it decides about requests, and nothing where it only tells', () => {
    const { checks } = read({
      checks: { a: { port: 1, kind: 'readiness' }, b: { port: 1, kind: 'informational' } },
    })
    expect(checks['a']).toMatchObject({ kind: 'readiness' })
    expect(checks['b']).not.toHaveProperty('kind')
    expect(checksOf({ services: [], checks })).toMatchObject([
      { name: 'a', kind: 'readiness' },
      { name: 'b' },
    ])
  })

  test('what it shows can be sent again', () => {
    const config = read({
      env: { A: '1' },
      init: { cmd: ['a', 'b'] },
      services: [
        {
          protocol: 'tcp',
          internal_port: 8080,
          autostop: 'stop',
          autostart: true,
          ports: [
            { port: 80, handlers: ['http'], force_https: true },
            { start_port: 9000, end_port: 9009 },
            {
              port: 8443,
              handlers: ['tls', 'http'],
              http_options: {
                compress: true,
                h2_backend: true,
                idle_timeout: 90,
                response: { headers: { 'X-A': 'b', c: ['d', 'e'], f: false }, pristine: true },
              },
              tls_options: { alpn: ['h2'], versions: ['TLSv1.3'], default_self_signed: true },
            },
            { port: 9999, handlers: ['proxy_proto'], proxy_proto_options: { version: 'v2' } },
          ],
          checks: [{ type: 'http', path: '/', interval: '15s' }],
          concurrency: { type: 'requests', soft_limit: 5, hard_limit: 10 },
        },
      ],
      checks: { alive: { port: 8080 } },
      stop_config: { signal: 'SIGTERM', timeout: '1m' },
      metadata: { role: 'web' },
    })
    expect(read(configReply(config))).toEqual(config)
  })
})

test.each([
  [0, '0s'],
  [250, '250ms'],
  [1500, '1.5s'],
  [15_000, '15s'],
  [90_000, '1m30s'],
  [3_600_000, '1h0m0s'],
])('%d ms is %s', (ms, text) => {
  expect(goDuration(ms)).toBe(text)
})
