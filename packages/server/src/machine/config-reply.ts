import type {
  ContainerConfig,
  MachineCheck,
  MachineConfig,
  MachinePort,
  StopConfig,
} from '@roost/core'

/** As the Machines API shows it: durations as Go strings, `off` and `stop` as booleans. */
export function configReply(config: MachineConfig): Record<string, unknown> {
  return {
    image: config.image,
    env: config.env,
    init: config.init,
    guest: config.guest,
    services: config.services.map((service) => ({
      protocol: service.protocol,
      internal_port: service.internal_port,
      autostop: service.autostop === 'suspend' ? 'suspend' : service.autostop === 'stop',
      autostart: service.autostart,
      min_machines_running: service.min_machines_running,
      ports: service.ports.map(portReply),
      checks: service.checks.map(checkReply),
      concurrency: {
        type: service.concurrency.type,
        soft_limit: service.concurrency.soft_limit,
        ...(service.concurrency.hard_limit === null
          ? {}
          : { hard_limit: service.concurrency.hard_limit }),
      },
      force_instance_key: null,
    })),
    checks: Object.fromEntries(
      Object.entries(config.checks).map(([name, check]) => [name, checkReply(check)]),
    ),
    restart: config.restart,
    stop_config: stopReply(config.stop_config),
    metadata: config.metadata,
    auto_destroy: config.auto_destroy,
    ...asStored(config),
    ...(config.containers === undefined
      ? {}
      : { containers: config.containers.map(containerReply) }),
  }
}

/** What is stored as it is shown. */
function asStored(config: MachineConfig): Record<string, unknown> {
  const { files, processes, volumes, dns, metrics, standbys, statics } = config
  const { schedule, isolation, rootfs, cache_drive, mounts } = config
  const all = { files, processes, volumes, dns, metrics, standbys, statics }
  return Object.fromEntries(
    Object.entries({ ...all, schedule, isolation, rootfs, cache_drive, mounts }).filter(
      ([, value]) => value !== undefined,
    ),
  )
}

function portReply({ port, end_port, ...rest }: MachinePort): Record<string, unknown> {
  return end_port === undefined ? { port, ...rest } : { start_port: port, end_port, ...rest }
}

function stopReply(stop: StopConfig): Record<string, unknown> {
  return { signal: stop.signal, timeout: goDuration(stop.timeout_ms) }
}

function containerReply(container: ContainerConfig): Record<string, unknown> {
  return {
    ...container,
    ...(container.stop === undefined ? {} : { stop: stopReply(container.stop) }),
    healthchecks: container.healthchecks.map(
      ({ interval_ms, timeout_ms, grace_period_ms, ...rest }) => ({
        ...rest,
        interval: interval_ms / 1000,
        timeout: timeout_ms / 1000,
        grace_period: grace_period_ms / 1000,
      }),
    ),
  }
}

function checkReply(check: MachineCheck): Record<string, unknown> {
  const { interval_ms, timeout_ms, grace_period_ms, ...rest } = check
  return {
    ...rest,
    interval: goDuration(interval_ms),
    timeout: goDuration(timeout_ms),
    grace_period: goDuration(grace_period_ms),
  }
}

/** As Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`. */
export function goDuration(ms: number): string {
  if (ms === 0) return '0s'
  if (ms < 1000) return `${ms}ms`
  const hours = Math.floor(ms / 3_600_000)
  const minutes = Math.floor((ms % 3_600_000) / 60_000)
  const seconds = (ms % 60_000) / 1000
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`
}
