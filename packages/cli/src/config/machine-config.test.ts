import { describe, expect, test } from 'vitest'
import { readFlyToml } from './fly-toml.ts'
import { machineConfigOf } from './machine-config.ts'

const machine = (content: string) => machineConfigOf(readFlyToml(content).config)

test('an http_service is a service on 80 and 443', () => {
  const { services } = machine(`
    [http_service]
    internal_port = 3000
    force_https = true
    auto_stop_machines = "stop"
    min_machines_running = 1
    [http_service.concurrency]
    soft_limit = 200
    hard_limit = 250
    [[http_service.checks]]
    interval = 15000
    timeout = "2s"
    grace_period = "1m30s"
    method = "get"
    path = "/up"
  `)
  expect(services).toEqual([
    {
      protocol: 'tcp',
      internal_port: 3000,
      autostop: 'stop',
      min_machines_running: 1,
      concurrency: { type: 'connections', soft_limit: 200, hard_limit: 250 },
      ports: [
        { port: 80, handlers: ['http'], force_https: true },
        { port: 443, handlers: ['tls', 'http'] },
      ],
      checks: [
        {
          type: 'http',
          interval: '15s',
          timeout: '2s',
          grace_period: '90s',
          method: 'GET',
          path: '/up',
        },
      ],
    },
  ])
})

test('services keep their ports with their options, and their checks', () => {
  const { services } = machine(`
    [[services]]
    protocol = "tcp"
    internal_port = 4000
    [[services.ports]]
    port = 80
    handlers = ["http"]
    [[services.ports]]
    start_port = 5000
    end_port = 5010
    handlers = ["tls", "proxy_proto"]
    tls_options = { alpn = ["h2"], versions = ["TLSv1.3"] }
    proxy_proto_options = { version = "v2" }
    [[services.tcp_checks]]
    interval = "1500ms"
    [[services.http_checks]]
    path = "/"
    [[services]]
    protocol = "udp"
    internal_port = 5060
    [[services.ports]]
    port = 5060
    [[services]]
    protocol = "tcp"
    internal_port = 53
  `)
  expect(services).toEqual([
    {
      protocol: 'tcp',
      internal_port: 4000,
      ports: [
        { port: 80, handlers: ['http'] },
        {
          start_port: 5000,
          end_port: 5010,
          handlers: ['tls', 'proxy_proto'],
          tls_options: { alpn: ['h2'], versions: ['TLSv1.3'] },
          proxy_proto_options: { version: 'v2' },
        },
      ],
      checks: [
        { type: 'tcp', interval: '1500ms' },
        { type: 'http', path: '/' },
      ],
    },
    { protocol: 'udp', internal_port: 5060, ports: [{ port: 5060, handlers: [] }], checks: [] },
  ])
})

test('options of http_service are those of both its ports, as far as they go', () => {
  const { services } = machine(`
    [http_service]
    internal_port = 3000
    [http_service.http_options]
    compress = true
    headers_read_timeout = 5
    [http_service.http_options.response]
    pristine = true
    headers = { x-a = "b", server = false }
    [[http_service.http_options.replay_cache]]
    path_prefix = "/"
    ttl_seconds = 60
    type = "cookie"
    name = "sid"
    [http_service.tls_options]
    alpn = ["h2"]
  `)
  const http_options = {
    compress: true,
    response: { pristine: true, headers: { 'x-a': 'b', server: false } },
    replay_cache: [{ path_prefix: '/', ttl_seconds: 60, type: 'cookie', name: 'sid' }],
  }
  expect(services?.[0]?.ports).toEqual([
    { port: 80, handlers: ['http'], force_https: false, http_options },
    { port: 443, handlers: ['tls', 'http'], http_options, tls_options: { alpn: ['h2'] } },
  ])
})

test('top-level checks take the port of the http_service', () => {
  const { checks } = machine(`
    [http_service]
    internal_port = 3000
    [checks.up]
    type = "http"
    path = "/up"
    interval = "5s"
    [checks.db]
    type = "tcp"
    port = 5432
  `)
  expect(checks).toEqual({
    up: { type: 'http', port: 3000, path: '/up', interval: '5s' },
    db: { type: 'tcp', port: 5432 },
  })
})

test('checks by https, with headers in either form', () => {
  const { services, checks } = machine(`
    [http_service]
    [[http_service.checks]]
    path = "/up"
    protocol = "https"
    tls_skip_verify = true
    tls_server_name = "shop.example"
    headers = { X-Forwarded-Proto = "https", X-Number = 1 }
    [checks.up]
    type = "http"
    [[checks.up.headers]]
    name = "accept"
    values = ["text/plain", "text/html"]
  `)
  expect(services?.[0]?.checks).toEqual([
    {
      type: 'http',
      path: '/up',
      protocol: 'https',
      tls_skip_verify: true,
      tls_server_name: 'shop.example',
      headers: [
        { name: 'X-Forwarded-Proto', values: ['https'] },
        { name: 'X-Number', values: ['1'] },
      ],
    },
  ])
  expect(checks?.['up']?.headers).toEqual([{ name: 'accept', values: ['text/plain', 'text/html'] }])
})

describe('guest', () => {
  test.each<[string, unknown]>([
    ['', undefined],
    ['[[vm]]', { cpu_kind: 'shared', cpus: 1, memory_mb: 256 }],
    ['[[vm]]\nsize = "shared-cpu-2x"', { cpu_kind: 'shared', cpus: 2, memory_mb: 512 }],
    [
      '[[vm]]\nsize = "performance-2x"\nmemory = "8gb"',
      { cpu_kind: 'performance', cpus: 2, memory_mb: 8192 },
    ],
    [
      '[[vm]]\nmemory = 512\ncpus = 2\ncpu_kind = "performance"',
      { cpu_kind: 'performance', cpus: 2, memory_mb: 512 },
    ],
    ['[[vm]]\nmemory_mb = 1024', { cpu_kind: 'shared', cpus: 1, memory_mb: 1024 }],
    [
      '[processes]\napp = "a"\nworker = "b"\n[[vm]]\nmemory = 512\n[[vm]]\nmemory = 1024\nprocesses = ["app"]',
      { cpu_kind: 'shared', cpus: 1, memory_mb: 1024 },
    ],
  ])('%j', (content, guest) => {
    expect(machine(content).guest).toEqual(guest)
  })
})

test('a single process group gives the command, the metadata and the environment', () => {
  const made = machine(`
    primary_region = "ams"
    [env]
    PORT = 3000
    [processes]
    web = "node 'my server.js' --port \\"3 000\\""
    [http_service]
    processes = ["web"]
  `)
  expect(made.init).toEqual({ cmd: ['node', 'my server.js', '--port', '3 000'] })
  expect(made.metadata).toEqual({ fly_platform_version: 'v2', fly_process_group: 'web' })
  expect(made.env).toEqual({ PORT: '3000', FLY_PROCESS_GROUP: 'web', PRIMARY_REGION: 'ams' })
  expect(made.services).toHaveLength(1)
})

test('sections of another group do not reach the default group', () => {
  const made = machine(`
    [processes]
    app = "web"
    worker = "work"
    [[restart]]
    policy = "never"
    processes = ["worker"]
    [[restart]]
    policy = "always"
    retries = 3
  `)
  expect(made.restart).toEqual({ policy: 'always', max_retries: 3 })
})

test('files that edges serve are of every group', () => {
  const file = readFlyToml(
    '[processes]\nweb = "a"\nworker = "b"\n[[statics]]\nguest_path = "/app/public"\nurl_prefix = "/assets"',
  )
  for (const group of ['web', 'worker'])
    expect(machineConfigOf(file.config, { group }).statics).toEqual([
      { guest_path: '/app/public', url_prefix: '/assets' },
    ])
  expect(file.warnings).toEqual([])
})

test('stop, restart and start-up commands', () => {
  const made = machine(`
    kill_signal = "SIGTERM"
    kill_timeout = 120
    [[restart]]
    policy = "never"
    [experimental]
    entrypoint = "/bin/sh -c"
    cmd = ["run", "it"]
    exec = ["/bin/true"]
  `)
  expect(made.stop_config).toEqual({ signal: 'SIGTERM', timeout: '120s' })
  expect(made.restart).toEqual({ policy: 'no' })
  expect(made.init).toEqual({
    entrypoint: ['/bin/sh', '-c'],
    cmd: ['run', 'it'],
    exec: ['/bin/true'],
  })
})

test('an empty file asks for nothing', () => {
  expect(machine('')).toEqual({
    env: { FLY_PROCESS_GROUP: 'app' },
    init: {},
    services: [],
    checks: {},
    metadata: { fly_platform_version: 'v2', fly_process_group: 'app' },
  })
})

test('the region of the command line goes before that of the file', () => {
  const { config } = readFlyToml('primary_region = "ams"')
  expect(machineConfigOf(config, { primaryRegion: 'iad' }).env).toMatchObject({
    PRIMARY_REGION: 'iad',
  })
})
