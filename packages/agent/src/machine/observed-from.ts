import { type Observed, parseStamp } from '@roost/core'
import type { RuntimeMachine } from '../runtime.ts'

/** What a runtime shows, in core's words. */
export function observedFrom(shown: RuntimeMachine | null): Observed {
  if (shown === null) return { state: 'absent' }
  const stamp = parseStamp(shown.stamp)
  const { startedAt, exit } = shown
  switch (shown.state) {
    case 'created':
      return { state: 'created', ...stamp }
    case 'running':
      return { state: 'running', ...stamp, startedAt: startedAt ?? 0 }
    case 'suspended':
      return { state: 'suspended', ...stamp, startedAt: startedAt ?? 0 }
    case 'exited':
      return { state: 'exited', ...stamp, startedAt, exit }
    case 'broken':
      return { state: 'broken', ...stamp }
  }
}
