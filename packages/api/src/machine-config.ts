import { z } from 'zod'

/** Go duration string or nanoseconds → milliseconds. */
export const duration = z.union([z.string(), z.number()]).transform((value, context): number => {
  if (typeof value === 'number') return value / 1_000_000
  let rest = value
  let totalMs = 0
  const unitMs: Record<string, number> = {
    ns: 1e-6,
    us: 1e-3,
    µs: 1e-3,
    ms: 1,
    s: 1_000,
    m: 60_000,
    h: 3_600_000,
  }
  while (rest !== '') {
    const match = /^(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/.exec(rest)
    if (!match) {
      context.addIssue({ code: 'custom', message: `not a duration such as "15s": ${value}` })
      return z.NEVER
    }
    totalMs += Number(match[1]) * (unitMs[match[2] ?? ''] ?? 0)
    rest = rest.slice(match[0].length)
  }
  return totalMs
})

const stopSignal = z.enum([
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
  'SIGTERM',
])

const strings = z.array(z.string()).nullish()
const httpHeaders = z.array(z.looseObject({ name: z.string(), values: z.array(z.string()) }))

const check = z.looseObject({
  /** Fly's: a check that decides about requests though it belongs to no service. */
  kind: z.enum(['informational', 'readiness']).nullish(),
  type: z.enum(['tcp', 'http']).default('tcp'),
  port: z.int().min(1).max(65535).optional(),
  interval: duration.optional(),
  timeout: duration.optional(),
  grace_period: duration.optional(),
  method: z.string().optional(),
  path: z.string().optional(),
  protocol: z.enum(['http', 'https']).optional(),
  tls_skip_verify: z.boolean().optional(),
  tls_server_name: z.string().optional(),
  headers: httpHeaders.nullish(),
})

const port = z.looseObject({
  port: z.int().min(1).max(65535).optional(),
  start_port: z.int().min(1).max(65535).optional(),
  end_port: z.int().min(1).max(65535).optional(),
  handlers: z.array(z.string()).nullish(),
  force_https: z.boolean().optional(),
  tls_options: z
    .looseObject({
      alpn: strings,
      versions: strings,
      default_self_signed: z.boolean().nullish(),
    })
    .nullish(),
  http_options: z
    .looseObject({
      compress: z.boolean().nullish(),
      response: z
        .looseObject({
          headers: z.record(z.string(), z.unknown()).nullish(),
          pristine: z.boolean().nullish(),
        })
        .nullish(),
      h2_backend: z.boolean().nullish(),
      idle_timeout: z.int().min(0).nullish(),
      headers_read_timeout: z.int().min(0).nullish(),
      replay_cache: z
        .array(
          z.looseObject({
            path_prefix: z.string(),
            ttl_seconds: z.int(),
            type: z.enum(['cookie', 'header']),
            name: z.string(),
            allow_bypass: z.boolean().optional(),
          }),
        )
        .nullish(),
    })
    .nullish(),
  proxy_proto_options: z.looseObject({ version: z.string().optional() }).nullish(),
})

const service = z.looseObject({
  protocol: z.enum(['tcp', 'udp']),
  internal_port: z.int().min(1).max(65535),
  autostop: z.union([z.enum(['off', 'stop', 'suspend']), z.boolean()]).nullish(),
  autostart: z.boolean().nullish(),
  min_machines_running: z.int().min(0).nullish(),
  ports: z.array(port).nullish(),
  checks: z.array(check).nullish(),
  force_instance_key: z.string().nullish(),
  force_instance_description: z.string().nullish(),
  concurrency: z
    .looseObject({
      type: z.string().default('connections'),
      soft_limit: z.int().min(0).optional(),
      hard_limit: z.int().min(0).optional(),
    })
    .nullish(),
})

/** Empty is what clients written in Go send for nothing. */
const text = z.string().nullish()
const restart = z
  .looseObject({
    policy: z.enum(['no', 'always', 'on-failure']).or(z.literal('')).optional(),
    max_retries: z.int().min(0).optional(),
  })
  .nullish()
const stopConfig = z
  .looseObject({ signal: stopSignal.or(z.literal('')).nullish(), timeout: duration.nullish() })
  .nullish()
const persist = z.union([z.enum(['', 'none', 'never', 'restart', 'always']), z.int().min(0).max(3)])
const secrets = z.array(z.looseObject({ env_var: z.string(), name: text })).nullish()
const envFrom = z
  .array(
    z.looseObject({
      env_var: z.string(),
      field_ref: z.enum(['id', 'version', 'app_name', 'private_ip', 'region', 'image']),
    }),
  )
  .nullish()
const env = z.record(z.string(), z.string()).nullish()
const files = z
  .array(
    z.looseObject({
      guest_path: z.string(),
      raw_value: text,
      secret_name: text,
      image_config: text,
      mode: z.int().nullish(),
    }),
  )
  .nullish()

const process = z.looseObject({
  exec: strings,
  entrypoint: strings,
  cmd: strings,
  user: text,
  env,
  secrets,
  ignore_app_secrets: z.boolean().nullish(),
  env_from: envFrom,
})

/** Times in whole seconds; zero is not set. */
const healthcheck = z.looseObject({
  name: z.string(),
  interval: z.int().min(0).nullish(),
  timeout: z.int().min(0).nullish(),
  grace_period: z.int().min(0).nullish(),
  success_threshold: z.int().min(0).nullish(),
  failure_threshold: z.int().min(0).nullish(),
  kind: z.enum(['', 'readiness', 'liveness']).nullish(),
  unhealthy: z.enum(['', 'stop']).nullish(),
  http: z
    .looseObject({
      port: z.int().min(1).max(65535),
      method: text,
      path: text,
      headers: httpHeaders.nullish(),
      scheme: z.enum(['', 'http', 'https']).nullish(),
      tls_skip_verify: z.boolean().nullish(),
      tls_server_name: text,
    })
    .nullish(),
  tcp: z.looseObject({ port: z.int().min(1).max(65535) }).nullish(),
  exec: z.looseObject({ command: z.array(z.string()).min(1) }).nullish(),
})

const container = z.looseObject({
  name: z.string(),
  /** Default: the machine's. */
  image: text,
  exec: strings,
  entrypoint: strings,
  cmd: strings,
  user: text,
  env,
  secrets,
  env_from: envFrom,
  files,
  restart,
  stop: stopConfig,
  depends_on: z
    .array(
      z.looseObject({
        name: z.string(),
        condition: z.enum(['started', 'healthy', 'exited_successfully']),
      }),
    )
    .nullish(),
  healthchecks: z.array(healthcheck).nullish(),
  mounts: z.array(z.looseObject({ name: z.string(), path: z.string() })).nullish(),
})

const volume = z.looseObject({
  name: z.string(),
  temp_dir: z
    .looseObject({
      storage_type: z.enum(['disk', 'memory']),
      size_mb: z.int().min(0).nullish(),
    })
    .nullish(),
  image: text,
})

const dns = z
  .looseObject({
    skip_registration: z.boolean().nullish(),
    nameservers: strings,
    searches: strings,
    options: z.array(z.looseObject({ name: z.string(), value: text })).nullish(),
    dns_forward_rules: z.array(z.looseObject({ basename: z.string(), addr: z.string() })).nullish(),
    hostname: text,
    hostname_fqdn: text,
  })
  .nullish()

const mount = z.looseObject({
  encrypted: z.boolean().nullish(),
  path: z.string(),
  size_gb: z.int().min(0).nullish(),
  volume: z.string(),
  name: text,
  extend_threshold_percent: z.int().min(0).max(100).nullish(),
  add_size_gb: z.int().min(0).nullish(),
  size_gb_limit: z.int().min(0).nullish(),
})

/**
 * A `config` as clients send it. Keys that it does not have are let through here, and refused by the server by their names, as
 * are those that Roost does not act on. One of `image` and `containers` is needed.
 */
export const machineConfigInput = z.looseObject({
  image: text,
  env,
  init: z
    .looseObject({
      exec: strings,
      entrypoint: strings,
      cmd: strings,
      tty: z.boolean().nullish(),
      swap_size_mb: z.int().min(0).nullish(),
      kernel_args: strings,
    })
    .nullish(),
  guest: z
    .looseObject({
      cpu_kind: z.enum(['shared', 'performance']).optional(),
      cpus: z.int().min(1).max(128).optional(),
      memory_mb: z.int().min(64).max(1_048_576).optional(),
      max_memory_mb: z.int().min(0).nullish(),
      gpus: z.int().min(0).nullish(),
      gpu_kind: text,
      host_dedication_id: text,
      /** Deprecated by Fly for `rootfs.persist`. */
      persist_rootfs: persist.nullish(),
      kernel_args: strings,
    })
    .nullish(),
  /** Deprecated by Fly for `guest`, still sent: `shared-cpu-1x`. */
  size: z.string().nullish(),
  services: z.array(service).nullish(),
  checks: z.record(z.string(), check).nullish(),
  restart,
  stop_config: stopConfig,
  metadata: z.record(z.string(), z.string()).nullish(),
  auto_destroy: z.boolean().nullish(),
  files,
  processes: z.array(process).nullish(),
  containers: z.array(container).nullish(),
  volumes: z.array(volume).nullish(),
  dns,
  metrics: z
    .looseObject({
      port: z.int().min(1).max(65535),
      path: text,
      https: z.boolean().nullish(),
    })
    .nullish(),
  standbys: strings,
  statics: z
    .array(
      z.looseObject({
        guest_path: z.string(),
        url_prefix: z.string(),
        tigris_bucket: text,
        index_document: text,
      }),
    )
    .nullish(),
  /** Roost's own addition: a stricter wall between the machine and the kernel of its host. */
  isolation: z.enum(['', 'runc', 'gvisor']).nullish(),
  schedule: z.enum(['', 'hourly', 'daily', 'weekly', 'monthly']).nullish(),
  rootfs: z
    .looseObject({ persist: persist.nullish(), size_gb: z.int().min(0).nullish() })
    .nullish(),
  cache_drive: z.looseObject({ size_mb: z.int().min(0).nullish() }).nullish(),
  mounts: z.array(mount).nullish(),
  spot: z.looseObject({ max_price_fraction: z.number().nullish() }).nullish(),
  /** Deprecated by Fly for `services[].autostart`. */
  disable_machine_autostart: z.boolean().nullish(),
})
export type MachineConfigInput = z.infer<typeof machineConfigInput>
