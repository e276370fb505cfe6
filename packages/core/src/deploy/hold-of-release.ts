import type { MachineId } from '../id.ts'
import type { Release } from './release.ts'

/**
 * What keeps others from taking a lease on a machine: the release that is at work on it. It takes no lease itself, since
 * its plan says already which machines it changes, and for how long. null: it has nothing to do with the machine.
 */
export function holdOfRelease(release: Release, machine: MachineId): string | null {
  if (release.status !== 'starting' && release.status !== 'reverting') return null
  const { plan, undo } = release
  if (![...plan, ...undo].some((r) => r.source === machine || r.target === machine)) return null
  const until = new Date(release.deadline).toISOString().replace(/\.\d+Z$/, 'Z')
  return `machine lease currently held by release ${release.version} of ${release.app}, expires at ${until}`
}
