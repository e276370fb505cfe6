import { type MachineConfigInput, machineConfigInput } from '@roost/api'
import { describe, expect, test } from 'vitest'
import { machineConfig, readConfig } from './config.ts'
import { configReply } from './config-reply.ts'
import { NOT_SUPPORTED } from './not-supported.ts'
import { resolveImages } from './resolve-images.ts'

const parse = (input: object): MachineConfigInput =>
  machineConfigInput.parse({ image: 'registry.internal/shop', ...input })
const read = (input: object) => readConfig(parse(input))

const web = { name: 'web', image: 'nginx' }
const everything = {
  init: { cmd: [], tty: true, swap_size_mb: 512, kernel_args: ['quiet'] },
  files: [
    { guest_path: '/etc/a', raw_value: 'aGFsbG8=', mode: 0o600 },
    { guest_path: '/etc/b', secret_name: 'KEY' },
    { guest_path: '/etc/c', image_config: 'nginx' },
  ],
  containers: [
    { name: 'db', image: 'postgres', healthchecks: [{ name: 'up', tcp: { port: 5432 } }] },
    { name: 'migrate', cmd: ['migrate'], restart: { policy: 'no' } },
    {
      ...web,
      user: 'www:www',
      env: { A: '1' },
      secrets: [{ env_var: 'TOKEN', name: '' }],
      env_from: [{ env_var: 'ME', field_ref: 'id' }],
      files: [{ guest_path: '/run/x', raw_value: '' }],
      stop: { signal: 'SIGTERM', timeout: '10s' },
      depends_on: [
        { name: 'db', condition: 'healthy' },
        { name: 'migrate', condition: 'exited_successfully' },
      ],
      healthchecks: [
        {
          name: 'alive',
          interval: 3,
          timeout: 2,
          grace_period: 1,
          success_threshold: 2,
          failure_threshold: 5,
          kind: 'liveness',
          unhealthy: 'stop',
          http: { port: 80, path: '/up', method: 'head', scheme: 'https', tls_skip_verify: true },
        },
        { name: 'there', exec: { command: ['test', '-e', '/x'] } },
      ],
      mounts: [{ name: 'shared', path: '/shared' }],
    },
  ],
  volumes: [
    { name: 'shared', temp_dir: { storage_type: 'disk', size_mb: 10 } },
    { name: 'quick', temp_dir: { storage_type: 'memory' } },
    { name: 'site', image: 'site' },
  ],
  dns: {
    skip_registration: true,
    nameservers: ['1.1.1.1', '::1'],
    searches: ['internal'],
    options: [{ name: 'ndots', value: '2' }, { name: 'rotate' }],
    dns_forward_rules: [{ basename: 'corp.example', addr: '10.0.0.1:53' }],
    hostname: 'me',
    hostname_fqdn: 'me.example.com',
  },
  metrics: { port: 9091 },
  standbys: ['3d8d9930b32189'],
  schedule: 'daily',
  rootfs: { persist: 'always', size_gb: 4 },
  cache_drive: { size_mb: 100 },
  mounts: [{ volume: 'vol_1', path: '/data' }],
  checks: { ready: { port: 80, kind: 'readiness' } },
}

describe('every key of a configuration', () => {
  test('is shown so that it can be sent again', () => {
    const config = read(everything)
    expect(read(configReply(config))).toEqual(config)
    expect(machineConfigInput.safeParse(configReply(config)).error).toBeUndefined()
    const statics = [{ guest_path: '/app/public', url_prefix: '/static' }]
    expect(configReply(read({ statics }))['statics']).toEqual(statics)
  })

  test('that was not set stays absent, also where Go clients send it empty', () => {
    const bare = read({})
    const empty = {
      files: [],
      processes: [],
      containers: [],
      volumes: [],
      dns: {},
      metrics: null,
      standbys: [],
      statics: [],
      schedule: '',
      rootfs: { persist: '', size_gb: 0 },
      cache_drive: { size_mb: 0 },
      mounts: null,
      init: { tty: false, swap_size_mb: 0, kernel_args: [] },
      guest: { gpus: 0, gpu_kind: '', persist_rootfs: 'never' },
    }
    expect(Object.keys(bare).sort()).toEqual(
      'auto_destroy checks env guest image init metadata restart services stop_config'.split(' '),
    )
    expect(machineConfig(parse(empty))).toEqual(bare)
    expect(read(configReply(bare))).toEqual(bare)
  })

  test('says of a container only what it says itself, but its image', () => {
    const { containers, image } = read({
      image: 'registry.internal/shop:1',
      restart: { policy: 'always' },
      stop_config: { signal: 'SIGQUIT', timeout: '20s' },
      containers: [{ name: 'app' }, { ...web, restart: { policy: 'no' }, stop: { timeout: 0 } }],
    })
    expect(image).toBe('registry.internal/shop:1')
    expect(containers?.map((one) => one.image)).toEqual(['registry.internal/shop:1', 'nginx'])
    expect(containers?.[0]).not.toHaveProperty('restart')
    expect(containers?.[0]).not.toHaveProperty('stop')
    expect(containers?.[1]).toMatchObject({
      restart: { policy: 'no', max_retries: 10 },
      stop: { signal: 'SIGINT', timeout_ms: 0 },
    })
  })

  test('needs no image of the machine beside those of containers', () => {
    const input = machineConfigInput.parse({ containers: [web, { name: 'app', image: 'shop' }] })
    expect(readConfig(input).image).toBe('shop')
    expect(() => readConfig(machineConfigInput.parse({}))).toThrow('config.image: is missing')
  })

  test.each([
    [{ containers: [web, web] }, 'config.containers[1].name: "web" is there twice'],
    [
      { containers: [{ ...web, depends_on: [{ name: 'db', condition: 'started' }] }] },
      'config.containers[0].depends_on[0].name: there is no container "db" in this machine',
    ],
    [
      {
        containers: [
          { name: 'a', depends_on: [{ name: 'b', condition: 'started' }] },
          { name: 'b', depends_on: [{ name: 'c', condition: 'started' }] },
          { name: 'c', depends_on: [{ name: 'b', condition: 'started' }] },
        ],
      },
      'config.containers[2].depends_on: containers wait for each other: b -> c -> b',
    ],
    [
      { containers: [{ ...web, depends_on: [{ name: 'web', condition: 'started' }] }] },
      'config.containers[0].depends_on[0].name: a container can not wait for itself',
    ],
    [
      { containers: [web, { name: 'b', depends_on: [{ name: 'web', condition: 'healthy' }] }] },
      'config.containers[1].depends_on[0].condition: container "web" has no healthchecks',
    ],
    [
      {
        containers: [
          { ...web, restart: { policy: 'always' } },
          { name: 'b', depends_on: [{ name: 'web', condition: 'exited_successfully' }] },
        ],
      },
      'config.containers[1].depends_on[0].condition: container "web" is always restarted',
    ],
    [
      { containers: [{ ...web, mounts: [{ name: 'v', path: '/v' }] }] },
      'config.containers[0].mounts[0].name: there is no volume "v" in config.volumes',
    ],
    [
      {
        volumes: [{ name: 'v', temp_dir: { storage_type: 'disk' } }],
        containers: [{ ...web, mounts: [{ name: 'v', path: 'v' }] }],
      },
      'config.containers[0].mounts[0].path: "v" is no absolute path',
    ],
    [{ volumes: [{ name: 'v' }] }, 'config.volumes[0]: needs exactly one of temp_dir and image'],
    [
      { volumes: [{ name: 'v', image: 'x' }] },
      'config.volumes: only containers mount them, and there are none',
    ],
    [
      { containers: [web], init: { cmd: ['x'] } },
      'config.init: a machine with containers runs these',
    ],
    [
      { containers: [web], processes: [{ cmd: ['x'] }] },
      'config.processes: a machine has containers or processes, not both',
    ],
    [
      { containers: [{ ...web, healthchecks: [{ name: 'a' }] }] },
      'config.containers[0].healthchecks[0]: needs exactly one of http, tcp and exec',
    ],
    [
      {
        containers: [{ ...web, healthchecks: [{ name: 'a', interval: 9999, tcp: { port: 1 } }] }],
      },
      'config.containers[0].healthchecks[0].interval: 9999 is not between 0 and 3600',
    ],
    [
      { files: [{ guest_path: 'etc/x', raw_value: '' }] },
      'config.files[0].guest_path: "etc/x" is no absolute path',
    ],
    [
      { files: [{ guest_path: '/a/../b', raw_value: '' }] },
      'config.files[0].guest_path: "/a/../b" is no absolute path',
    ],
    [
      { files: [{ guest_path: '/a' }] },
      'config.files[0]: needs exactly one of raw_value, secret_name and image_config',
    ],
    [{ files: [{ guest_path: '/a', raw_value: '!' }] }, 'config.files[0].raw_value: is not base64'],
    [
      { files: [{ guest_path: '/a', raw_value: '', mode: 0o10000 }] },
      'config.files[0].mode: 4096 is no mode of chmod',
    ],
    [
      {
        files: [
          { guest_path: '/a', raw_value: '' },
          { guest_path: '/a', raw_value: '' },
        ],
      },
      'config.files[1].guest_path: "/a" is there twice',
    ],
    [
      { files: [{ guest_path: '/a', raw_value: 'aaaa'.repeat(300_000) }] },
      'config.files: together they have 1200000 characters in base64',
    ],
    [
      { processes: [{ secrets: [{ env_var: 'A B' }] }] },
      'config.processes[0].secrets[0].env_var: "A B" is no name of an environment variable',
    ],
    [{ processes: [{ user: 'a b' }] }, 'config.processes[0].user: "a b" is no user'],
    [{ dns: { nameservers: ['x'] } }, 'config.dns.nameservers[0]: "x" is no IP address'],
    [{ standbys: ['x'] }, 'config.standbys[0]: "x" is no id of a machine'],
    [
      { statics: Array(11).fill({ guest_path: '/a', url_prefix: '/' }) },
      'config.statics: at most 10, not 11',
    ],
    [
      { statics: ['/a', '/b', '/a/'].map((url_prefix) => ({ guest_path: '/x', url_prefix })) },
      'config.statics[2].url_prefix: "/a/" is there already',
    ],
    [
      { statics: [{ guest_path: '/x', url_prefix: '/a;b' }] },
      'config.statics[0].url_prefix: "/a;b" is no beginning of a path',
    ],
    [
      { containers: [web], statics: [{ guest_path: '/x', url_prefix: '/a' }] },
      'config.statics: a machine with containers has no image of its own',
    ],
    [{ mounts: Array(2).fill({ volume: 'v', path: '/v' }) }, 'config.mounts: at most 1, not 2'],
  ])('refuses what can not be: %o', (input, text) => {
    expect(() => read(input)).toThrow(text)
  })
})

test('each key that nothing acts on is refused by its path', () => {
  const asked: Record<string, object> = {
    guest: {
      kernel_args: ['a'],
      max_memory_mb: 1,
      gpus: 1,
      gpu_kind: 'a10',
      host_dedication_id: 'x',
      persist_rootfs: 'always',
    },
    services: {
      protocol: 'tcp',
      internal_port: 1,
      force_instance_key: 'x',
      force_instance_description: 'x',
      checks: [{ kind: 'informational' }],
      ports: [
        {
          port: 1,
          http_options: {
            headers_read_timeout: 5,
            replay_cache: [{ path_prefix: '/', ttl_seconds: 10, type: 'cookie', name: 'a' }],
          },
        },
      ],
    },
  }
  const whole: Record<string, unknown> = {
    ...everything,
    processes: [{ cmd: ['x'] }],
    spot: { max_price_fraction: 0.5 },
    volumes: [{ name: 'v', image: 'docker.io/library/busybox' }],
    statics: [
      { guest_path: '/a', url_prefix: '/a', tigris_bucket: 'b', index_document: 'index.html' },
    ],
    guest: asked['guest'],
    services: [asked['services']],
  }
  for (const { path, why } of NOT_SUPPORTED) {
    const keys = path.split('.')
    const top = keys[0]?.replace('[]', '') ?? ''
    const only = pick(whole[top], keys.slice(1).map(plain))
    const said = `${path.replaceAll('[]', '[0]').replace('*', 'ready')} is not supported: ${why}`
    expect(() => machineConfig(parse({ [top]: only })), path).toThrow(`config.${said}`)
  }
})

test('a key that the Machines API does not have is refused, and one that is empty is not', () => {
  const parsed = parse({ containers: [{ ...web, wings: 2 }] })
  expect(() => machineConfig(parsed)).toThrow('config.containers[0].wings is not supported')
  expect(machineConfig(parse({ wings: null, guest: { wings: 0 } }))).toEqual(read({}))
})

test('the image of each container is looked up, and where it is wrong its key is named', async () => {
  const asked: string[] = []
  const images = {
    resolve: async (image: string) => {
      asked.push(image)
      return { image: `docker.io/${image}`, digest: `sha256:${image}` }
    },
  }
  const signal = new AbortController().signal
  const input = {
    containers: [{ name: 'app' }, web],
    volumes: [{ name: 'site', image: 'site' }],
  }
  const resolved = await resolveImages(images, read(input), signal)
  expect(asked).toEqual(['registry.internal/shop', 'nginx', 'site'])
  expect(resolved.containerDigests).toEqual({
    app: 'sha256:registry.internal/shop',
    web: 'sha256:nginx',
    'volume/site': 'sha256:site',
  })
  expect(resolved.config.containers?.[1]?.image).toBe('docker.io/nginx')
  expect(resolved.config.volumes?.[0]?.image).toBe('docker.io/site')
  expect(await resolveImages(images, read({}), signal)).not.toHaveProperty('containerDigests')
})

/** Only the one key that a path leads to, and what the schema needs beside it. */
function pick(value: unknown, path: readonly string[]): unknown {
  const [key, ...rest] = path
  if (key === undefined) return value
  if (Array.isArray(value)) return [pick(value[0], path)]
  const record = value as Record<string, unknown>
  if (key === '*')
    return Object.fromEntries(Object.entries(record).map(([k, v]) => [k, pick(v, rest)]))
  const needed = Object.fromEntries(
    ['name', 'protocol', 'internal_port', 'port', 'guest_path', 'url_prefix'].flatMap((k) =>
      k in record ? [[k, record[k]]] : [],
    ),
  )
  return { ...needed, [key]: pick(record[key], rest) }
}

function plain(key: string): string {
  return key.replace('[]', '')
}
