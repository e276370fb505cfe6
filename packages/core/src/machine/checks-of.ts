import type { Container, ContainerCheck } from '../container/container.ts'
import type { Instant } from '../id.ts'
import type { MachineCheck, MachineConfig } from './config.ts'
import type { CheckStatus } from './machine.ts'

/** One check of a machine, under the name that it is reported by. */
export interface CheckSpec extends Omit<MachineCheck, 'type' | 'kind'> {
  readonly name: string
  readonly type: MachineCheck['type'] | 'exec'
  readonly kind?: 'readiness' | 'liveness'
  /** `exec`: what is run in the container. The port is 0 then. */
  readonly command?: readonly string[]
  /** Of a container's: which, and how often in a row it must pass or fail before that is said. */
  readonly of?: { readonly container: string } & Pick<
    ContainerCheck,
    'intervalMs' | 'gracePeriodMs' | 'successThreshold' | 'failureThreshold'
  >
}

/** The checks of one container, in their order. */
export function checksOfContainer({
  name,
  checks,
}: Pick<Container, 'name' | 'checks'>): readonly CheckSpec[] {
  return checks.map((check): CheckSpec => {
    const { probe, kind, intervalMs, timeoutMs, gracePeriodMs } = check
    const { successThreshold, failureThreshold } = check
    const common = {
      name: `${name}/${check.name}`,
      kind,
      interval_ms: intervalMs,
      timeout_ms: timeoutMs,
      grace_period_ms: gracePeriodMs,
      of: { container: name, intervalMs, gracePeriodMs, successThreshold, failureThreshold },
    }
    if (probe.type === 'exec') return { ...common, type: 'exec', port: 0, command: probe.command }
    if (probe.type === 'tcp') return { ...common, type: 'tcp', port: probe.port }
    const { scheme, ...http } = probe
    return { ...common, ...http, ...(scheme === undefined ? {} : { protocol: scheme }) }
  })
}

const IMPLICIT = { interval_ms: 10_000, timeout_ms: 2_000, grace_period_ms: 0 }

/**
 * All checks of a machine: those of its services, numbered in order, then those of its own. A tcp service without any
 * gets one that connects to its port, since nothing is to be sent to a machine that does not listen yet.
 */
export function checksOf(config: Pick<MachineConfig, 'services' | 'checks'>): readonly CheckSpec[] {
  const ofServices = config.services.flatMap((service): readonly MachineCheck[] => {
    if (service.checks.length > 0 || service.protocol !== 'tcp') return service.checks
    return [{ type: 'tcp', port: service.internal_port, ...IMPLICIT }]
  })
  return [
    ...ofServices.map((check, n) => ({
      ...check,
      name: `servicecheck-${String(n).padStart(2, '0')}-${check.type}-${check.port}`,
    })),
    ...Object.entries(config.checks).map(([name, check]) => ({ ...check, name })),
  ]
}

/** What a check says before it has anything to say. */
export const UNCHECKED = 'not checked yet'

/** Before their first result, checks are critical: nothing is sent to a machine on trust. */
export function uncheckedStatuses(specs: readonly CheckSpec[], now: Instant): CheckStatus[] {
  return specs.map(({ name, kind, of }) => ({
    name,
    ...(kind === undefined ? {} : { kind }),
    // A container's says nothing before its thresholds do.
    status: of === undefined ? 'critical' : 'warning',
    output: UNCHECKED,
    updatedAt: now,
  }))
}
