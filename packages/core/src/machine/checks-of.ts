import type { Instant } from '../id.ts'
import type { MachineCheck, MachineConfig } from './config.ts'
import type { CheckStatus } from './machine.ts'

/** One check of a machine, under the name that it is reported by. */
export interface CheckSpec extends MachineCheck {
  readonly name: string
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
  return specs.map(({ name }) => ({
    name,
    status: 'critical',
    output: UNCHECKED,
    updatedAt: now,
  }))
}
