import { assertNever } from '../id.ts'
import type { DeployStrategy, Replacement } from './release.ts'

/** Fly's. */
const MAX_UNAVAILABLE = 0.33

/** How many of `count` machines are replaced at a time. */
export function replacedAtATime(
  strategy: DeployStrategy,
  maxUnavailable: number | null,
  count: number,
): number {
  switch (strategy) {
    case 'bluegreen':
    case 'immediate':
      return Math.max(1, count)
    case 'recreate':
      return boundOf(maxUnavailable ?? 1, count)
    case 'rolling':
    case 'canary':
      return boundOf(maxUnavailable ?? MAX_UNAVAILABLE, count)
    default:
      return assertNever(strategy)
  }
}

/** As Fly reads `max_unavailable`. */
function boundOf(said: number, count: number): number {
  return Math.max(1, said < 1 ? Math.ceil(said * count) : Math.floor(said))
}

/**
 * What takes over at a time, round by round: of each process group as many as the strategy allows, all groups side by side. Within
 * a group regions take turns, so that no region is replaced as a whole before another has begun. What comes or goes without
 * a counterpart does so with the last wave of its round, when the others have proved themselves.
 */
export function inWaves(
  replacements: readonly Replacement[],
  how: { readonly strategy: DeployStrategy; readonly maxUnavailable: number | null },
): Replacement[] {
  const { strategy, maxUnavailable } = how
  const swaps = replacements.filter((r) => r.source !== null && r.target !== null)
  const groups = [...new Set(swaps.map((r) => r.group))].map((name) =>
    swaps.filter((r) => r.group === name),
  )
  const waveOf = new Map<Replacement, number>()
  const rounds = replacements.reduce((most, r) => Math.max(most, r.round), 0)
  let first = 0
  for (let round = 0; round <= rounds; round++) {
    let last = first
    for (const members of groups) {
      const size = replacedAtATime(strategy, maxUnavailable, members.length)
      let wave = first
      let room = strategy === 'canary' && round === 0 ? 1 : size
      for (const swap of inTurns(members.filter((r) => r.round === round))) {
        if (room === 0) {
          wave++
          room = size
        }
        room--
        waveOf.set(swap, wave)
      }
      last = Math.max(last, wave)
    }
    for (const other of replacements)
      if (other.round === round && !waveOf.has(other)) waveOf.set(other, last)
    first = last + 1
  }
  return replacements.map((r) => ({ ...r, wave: waveOf.get(r) ?? 0 }))
}

function inTurns(replacements: readonly Replacement[]): Replacement[] {
  const seen = new Map<string, number>()
  return replacements
    .map((replacement) => {
      const turn = seen.get(replacement.region) ?? 0
      seen.set(replacement.region, turn + 1)
      return { replacement, turn }
    })
    .sort((a, b) => a.turn - b.turn)
    .map(({ replacement }) => replacement)
}
