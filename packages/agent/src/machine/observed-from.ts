import { type ContainerHealth, type Observed, parseStamp, UNKNOWN_HEALTH } from '@roost/core'
import type { RuntimeMachine } from '../runtime.ts'

/** What a runtime shows, in core's words. `healthOf`: what checks say of a container that runs. */
export function observedFrom(
  shown: RuntimeMachine | null,
  healthOf: (container: string, startedAt: number) => ContainerHealth = () => UNKNOWN_HEALTH,
): Observed {
  if (shown === null) return { state: 'absent' }
  const stamp = parseStamp(shown.stamp)
  const { startedAt, exit } = shown
  switch (shown.state) {
    case 'created':
      return { state: 'created', ...stamp }
    case 'running': {
      const running = { state: 'running', ...stamp, startedAt: startedAt ?? 0 } as const
      if (shown.containers === undefined) return running
      const containers = shown.containers.map((one) => ({
        ...one,
        health: one.state === 'running' ? healthOf(one.name, one.startedAt ?? 0) : UNKNOWN_HEALTH,
      }))
      return { ...running, containers }
    }
    case 'suspended':
      return { state: 'suspended', ...stamp, startedAt: startedAt ?? 0 }
    case 'exited':
      return { state: 'exited', ...stamp, startedAt, exit }
    case 'broken':
      return { state: 'broken', ...stamp }
  }
}
