import { expect } from 'vitest'
import { NOT_SUPPORTED } from '../../../packages/server/src/machine/not-supported.ts'
import { ownConfigKeys } from './own-openapi.ts'
import { differ, pass, type Row, type Section } from './row.ts'

const OWN = ownConfigKeys()
const CHECK =
  'port type interval timeout grace_period method path protocol tls_skip_verify tls_server_name headers headers[].name headers[].values'
const FILE = 'guest_path raw_value secret_name image_config mode'
const PROCESS =
  'exec entrypoint cmd user env secrets secrets[].env_var secrets[].name env_from env_from[].env_var env_from[].field_ref'
const below = (prefix: string, names: string) => [
  prefix.replace(/(\[\]|\.\*)?\.$/, ''),
  ...names.split(' ').map((name) => `${prefix}${name}`),
]

/** Every key of the Machines API's configuration. */
const KEYS: readonly string[] = [
  ...'image env metadata size disable_machine_autostart schedule auto_destroy standbys'.split(' '),
  ...below('init.', 'exec entrypoint cmd tty swap_size_mb kernel_args'),
  ...below(
    'guest.',
    'cpu_kind cpus memory_mb max_memory_mb gpus gpu_kind host_dedication_id persist_rootfs kernel_args',
  ),
  ...below('restart.', 'policy max_retries'),
  ...below('stop_config.', 'timeout signal'),
  ...below(
    'mounts[].',
    'encrypted path size_gb volume name extend_threshold_percent add_size_gb size_gb_limit',
  ),
  ...below('rootfs.', 'persist size_gb'),
  ...below('cache_drive.', 'size_mb'),
  ...below('spot.', 'max_price_fraction'),
  ...below('metrics.', 'port path https'),
  ...below('statics[].', 'guest_path url_prefix tigris_bucket index_document'),
  ...below(
    'dns.',
    'skip_registration nameservers searches options options[].name options[].value dns_forward_rules dns_forward_rules[].basename dns_forward_rules[].addr hostname hostname_fqdn',
  ),
  ...below('checks.*.', `${CHECK} kind`),
  ...below(
    'services[].',
    'protocol internal_port autostop autostart min_machines_running force_instance_key force_instance_description',
  ),
  ...below('services[].concurrency.', 'type hard_limit soft_limit'),
  ...below('services[].checks[].', CHECK),
  ...below('services[].ports[].', 'port start_port end_port handlers force_https'),
  ...below('services[].ports[].tls_options.', 'alpn versions default_self_signed'),
  ...below(
    'services[].ports[].http_options.',
    'compress response response.headers response.pristine h2_backend idle_timeout headers_read_timeout replay_cache replay_cache[].path_prefix replay_cache[].ttl_seconds replay_cache[].type replay_cache[].name replay_cache[].allow_bypass',
  ),
  ...below('services[].ports[].proxy_proto_options.', 'version'),
  ...below('files[].', FILE),
  ...below('processes[].', `${PROCESS} ignore_app_secrets`),
  ...below('containers[].', `name image ${PROCESS}`),
  ...below('containers[].files[].', FILE),
  ...below('containers[].restart.', 'policy max_retries'),
  ...below('containers[].stop.', 'timeout signal'),
  ...below('containers[].depends_on[].', 'name condition'),
  ...below('containers[].mounts[].', 'name path'),
  ...below(
    'containers[].healthchecks[].',
    'name interval grace_period success_threshold failure_threshold timeout kind unhealthy',
  ),
  ...below(
    'containers[].healthchecks[].http.',
    'port method path headers headers[].name headers[].values scheme tls_skip_verify tls_server_name',
  ),
  ...below('containers[].healthchecks[].tcp.', 'port'),
  ...below('containers[].healthchecks[].exec.', 'command'),
  ...below('volumes[].', 'name image'),
  ...below('volumes[].temp_dir.', 'storage_type size_mb'),
]

function rowOf(key: string): Row {
  const refused = NOT_SUPPORTED.find(
    ({ path }) => key === path || key.startsWith(`${path}.`) || key.startsWith(`${path}[`),
  )
  const isKnown = () => expect([...OWN]).toContain(key)
  const says = `\`config.${key}\``
  if (refused !== undefined) return differ(says, `refused by name: ${refused.why}`, isKnown)
  return pass(says, isKnown)
}

/** One value of each key that could be taken, as it is shown. */
const FULL = {
  image: 'docker.io/library/shop:latest',
  env: { A: '1' },
  metadata: { role: 'web' },
  auto_destroy: true,
  schedule: 'daily',
  standbys: ['3d8d9930b32189'],
  init: { exec: ['/a'], entrypoint: ['/b'], cmd: ['c'], swap_size_mb: 64 },
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  restart: { policy: 'on-failure', max_retries: 3 },
  stop_config: { signal: 'SIGTERM', timeout: '7s' },
  files: [
    { guest_path: '/etc/a', raw_value: 'aGFsbG8=', mode: 0o600 },
    { guest_path: '/etc/b', secret_name: 'KEY' },
  ],
  dns: {
    skip_registration: true,
    nameservers: ['1.1.1.1'],
    searches: ['internal'],
    options: [{ name: 'ndots', value: '2' }],
    hostname: 'me',
    hostname_fqdn: 'me.example.com',
  },
  checks: {
    ready: { kind: 'readiness', type: 'tcp', port: 80 },
    alive: { type: 'http', port: 80, path: '/up', method: 'HEAD', interval: '9s', timeout: '2s' },
  },
  services: [
    {
      protocol: 'tcp',
      internal_port: 80,
      autostop: 'suspend',
      autostart: true,
      min_machines_running: 1,
      concurrency: { type: 'requests', soft_limit: 3, hard_limit: 5 },
      ports: [{ port: 443, handlers: ['tls', 'http'], force_https: false }],
      checks: [
        {
          type: 'http',
          port: 80,
          path: '/',
          protocol: 'https',
          tls_skip_verify: true,
          tls_server_name: 'a',
          headers: [{ name: 'x', values: ['y'] }],
          interval: '15s',
          timeout: '10s',
          grace_period: '1s',
        },
      ],
    },
  ],
}

/** Without the keys that are refused. */
function taken(value: unknown, path: string): unknown {
  if (Array.isArray(value)) return value.map((one) => taken(one, `${path}[]`))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inside]) => {
      const at = path === '' ? key : `${path}.${key}`
      const refused = NOT_SUPPORTED.some((row) => row.path === at)
      return refused ? [] : [[key, taken(inside, at)]]
    }),
  )
}

/** Values of keys that are only partly taken. */
const VALUES: readonly Row[] = [
  differ(
    '`config.services[].ports[].handlers` `edge_http`',
    'refused by name: edges speak http, tls, pg_tls, proxy_proto and plain TCP',
    async (api) => {
      const services = [
        { protocol: 'tcp', internal_port: 1, ports: [{ port: 80, handlers: ['edge_http'] }] },
      ]
      const config = { image: 'shop', services }
      expect((await api.call('POST', '/v1/apps/shop/machines', { config })).body.error).toBe(
        'config.services[0].ports[0].handlers: edge_http is not supported',
      )
    },
  ),
  pass(
    '`config.services[].ports[]` is kept and shown as it was sent: ranges, `pg_tls`, `proxy_proto`, udp, options',
    async (api) => {
      const services = [
        {
          protocol: 'tcp',
          internal_port: 5432,
          ports: [
            { start_port: 10_000, end_port: 10_009, handlers: [], force_https: false },
            { port: 5432, handlers: ['pg_tls'], force_https: false },
            {
              port: 6000,
              handlers: ['proxy_proto'],
              force_https: false,
              proxy_proto_options: { version: 'v2' },
            },
            {
              port: 9443,
              handlers: ['tls', 'http'],
              force_https: false,
              tls_options: { alpn: ['h2'], versions: ['TLSv1.3'] },
              http_options: {
                compress: true,
                idle_timeout: 90,
                response: { headers: { a: 'b', c: ['d'], e: false }, pristine: true },
              },
            },
          ],
        },
        {
          protocol: 'udp',
          internal_port: 5060,
          ports: [{ port: 5060, handlers: [], force_https: false }],
        },
      ]
      const { config } = await api.launch({ config: { image: 'shop', services } })
      expect(config['services']).toMatchObject(services)
    },
  ),
  differ(
    'a port belongs to an address, of which an app may have several',
    'a port that names do not tell apart belongs to one app: another is refused, and told who has it',
    async (api) => {
      const ports = [{ port: 2525, handlers: [] }]
      const config = { image: 'shop', services: [{ protocol: 'tcp', internal_port: 25, ports }] }
      await api.launch({ config })
      await api.call('POST', '/v1/apps', { app_name: 'mail', org_slug: 'personal' })
      const { status, body } = await api.call('POST', '/v1/apps/mail/machines', { config })
      expect([status, body.error]).toEqual([
        409,
        'port 2525 belongs to the app shop: choose another',
      ])
    },
  ),
  pass(
    'autostop is read as a word or a boolean, and shown as `false`, `true` or `"suspend"`',
    async (api) => {
      for (const [sent, shown] of [
        ['off', false],
        [false, false],
        ['stop', true],
        [true, true],
        ['suspend', 'suspend'],
      ]) {
        const services = [{ protocol: 'tcp', internal_port: 80, autostop: sent }]
        const { config } = await api.launch({ config: { image: 'shop', services } })
        expect((config['services'] as { autostop: unknown }[])[0]?.autostop).toBe(shown)
      }
    },
  ),
  pass('durations are read as Go strings or nanoseconds, and shown as Go strings', async (api) => {
    for (const timeout of ['1m30s', 90_000_000_000]) {
      const { config } = await api.launch({ config: { image: 'shop', stop_config: { timeout } } })
      expect(config['stop_config']).toEqual({ signal: 'SIGINT', timeout: '1m30s' })
    }
  }),
  pass(
    'defaults: shared-cpu-1x with 256 MB, SIGINT, 5 s, on-failure with 10 retries',
    async (api) => {
      expect((await api.launch()).config).toMatchObject({
        guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
        stop_config: { signal: 'SIGINT', timeout: '5s' },
        restart: { policy: 'on-failure', max_retries: 10 },
      })
    },
  ),
  pass('`force_instance_key` of a service is always shown, as null', async (api) => {
    const services = [{ protocol: 'tcp', internal_port: 80, force_instance_key: null }]
    const { config } = await api.launch({ config: { image: 'shop', services } })
    expect(config['services']).toMatchObject([{ force_instance_key: null }])
  }),
  differ(
    'memory is a multiple of 256 MB, at least 256 MB for each shared cpu, and bounded by the cpus',
    'any size from 64 MB on: the hosts are your own',
    async (api) => {
      const guest = { cpu_kind: 'shared', cpus: 2, memory_mb: 100 }
      const { config } = await api.launch({ config: { image: 'shop', guest } })
      expect(config['guest']).toEqual(guest)
    },
  ),
  pass('each key that is taken is kept and shown, with all others at once', async (api) => {
    const config = taken(FULL, '') as Record<string, unknown>
    const { config: shown } = await api.launch({ config })
    expect(shown).toMatchObject(config)
  }),
  pass('what is shown can be sent again', async (api) => {
    const services = [
      {
        protocol: 'tcp',
        internal_port: 80,
        ports: [{ port: 443, handlers: ['tls', 'http'] }],
        checks: [{ type: 'http', path: '/', interval: '10s' }],
      },
    ]
    const config = { image: 'shop', services, metadata: { a: 'b' }, env: { A: '1' } }
    const first = await api.launch({ config })
    const { body } = await api.call('POST', `/v1/apps/shop/machines/${first.id}`, {
      config: first.config,
    })
    expect(body['config']).toEqual(first.config)
  }),
  pass('empty values, as clients written in Go send them, ask for nothing', async (api) => {
    const empty = { mounts: null, files: [], schedule: '', dns: {}, spot: null, statics: [] }
    const { config } = await api.launch({ config: { image: 'shop', init: {}, ...empty } })
    for (const key of Object.keys(empty)) expect(config).not.toHaveProperty(key)
  }),
]

export const CONFIG_SECTIONS: readonly Section[] = [
  { title: 'Configuration: keys', rows: [...new Set(KEYS)].map(rowOf) },
  { title: 'Configuration: values', rows: VALUES },
]
