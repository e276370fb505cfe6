import type { MachineConfig } from '../machine/config.ts'
import type { ContainerConfig, ContainerHealthcheck } from '../machine/container-config.ts'
import type { Container, ContainerCheck } from './container.ts'

type Config = Pick<
  MachineConfig,
  'image' | 'containers' | 'processes' | 'restart' | 'stop_config' | 'files'
>

/**
 * The containers of a machine, in the order of its configuration: those of `containers`, or one for each of `processes`.
 * null: it has none, and is one program itself.
 */
export function containersOf(config: Config): readonly Container[] | null {
  const configs = containerConfigsOf(config)
  if (configs === null) return null
  const essential = (config.containers ?? []).length === 0
  return configs.map((one) => ({
    name: one.name,
    restart: one.restart ?? config.restart,
    inheritsRestart: one.restart === undefined,
    stop: one.stop ?? config.stop_config,
    dependsOn: one.depends_on,
    essential,
    checks: one.healthchecks.flatMap(checkOf),
  }))
}

/** The same, as they are configured. */
export function containerConfigsOf(config: Config): readonly ContainerConfig[] | null {
  if (config.containers !== undefined && config.containers.length > 0) return config.containers
  if (config.processes === undefined || config.processes.length === 0) return null
  return config.processes.map((program, n) => ({
    name: processName(n),
    image: config.image,
    ...(program.exec === undefined ? {} : { exec: program.exec }),
    ...(program.entrypoint === undefined ? {} : { entrypoint: program.entrypoint }),
    ...(program.cmd === undefined ? {} : { cmd: program.cmd }),
    ...(program.user === undefined ? {} : { user: program.user }),
    env: program.env ?? {},
    env_from: program.env_from ?? [],
    files: config.files ?? [],
    // The machine ends with the first of them, and its own policy counts.
    restart: { policy: 'no', max_retries: 0 },
    depends_on: [],
    healthchecks: [],
    mounts: [],
  }))
}

/** Fly gives them no names: `process-1`, `process-2` and so on. */
export function processName(n: number): string {
  return `process-${n + 1}`
}

function checkOf(check: ContainerHealthcheck): readonly ContainerCheck[] {
  const probe = probeOf(check)
  if (probe === null) return []
  return [
    {
      name: check.name,
      probe,
      intervalMs: check.interval_ms,
      timeoutMs: check.timeout_ms,
      gracePeriodMs: check.grace_period_ms,
      successThreshold: check.success_threshold,
      failureThreshold: check.failure_threshold,
      kind: check.kind,
      stopsMachine: check.unhealthy === 'stop',
    },
  ]
}

function probeOf({ http, tcp, exec }: ContainerHealthcheck): ContainerCheck['probe'] | null {
  if (http !== undefined) return { type: 'http', ...http }
  if (tcp !== undefined) return { type: 'tcp', port: tcp.port }
  return exec === undefined ? null : { type: 'exec', command: exec.command }
}
