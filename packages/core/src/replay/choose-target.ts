import type { MachineId, RegionCode } from '../id.ts'
import { isRegionMeant } from '../region/region-alias.ts'

/** A machine as an edge sees it in the moment of the question. */
export interface ReplayCandidate {
  readonly machine: MachineId
  readonly region: RegionCode
  /** 0 is the edge's own region. */
  readonly rank: number
  /** Requests at work. */
  readonly load: number
  /** At its hard limit. */
  readonly full: boolean
}

/** Who a request is for, from `fly-replay` or from the client's own `fly-force-…` and `fly-prefer-…`. */
export interface ReplayAim {
  readonly instance: string | null
  readonly preferInstance: string | null
  /** In this order; empty: all. */
  readonly regions: readonly string[]
  /** Where none of these regions has anybody: any other will do. */
  readonly preferRegions: boolean
  readonly not: readonly string[]
}
export const ANYWHERE: ReplayAim = {
  instance: null,
  preferInstance: null,
  regions: [],
  preferRegions: false,
  not: [],
}

/** Whether a machine may be the one; also asked of those that are on their way. */
export function isAimedAt(
  aim: ReplayAim,
  at: { readonly machine: string; readonly region: string },
): boolean {
  if (aim.not.includes(at.machine)) return false
  if (aim.instance !== null && aim.instance !== at.machine) return false
  if (aim.regions.length === 0 || aim.preferRegions) return true
  return aim.regions.some((word) => isRegionMeant(word, at.region))
}

/**
 * The machine to send a request to, of those that are up: the preferred one, else one of the first region that has any; there those
 * with room first, then the nearest, then the least busy. null: there is none.
 */
export function chooseTarget(
  aim: ReplayAim,
  candidates: readonly ReplayCandidate[],
): ReplayCandidate | null {
  const aimed = candidates.filter((candidate) => isAimedAt(aim, candidate))
  const preferred = aimed.find(({ machine }) => machine === aim.preferInstance)
  if (preferred !== undefined) return preferred
  const best = (among: readonly ReplayCandidate[]) =>
    among.toSorted(
      (a, b) =>
        Number(a.full) - Number(b.full) ||
        a.rank - b.rank ||
        a.load - b.load ||
        (a.machine < b.machine ? -1 : 1),
    )[0] ?? null
  for (const word of aim.regions) {
    const found = best(aimed.filter(({ region }) => isRegionMeant(word, region)))
    if (found !== null) return found
  }
  return aim.regions.length === 0 || aim.preferRegions ? best(aimed) : null
}

/** Only among apps of one organization and one network may requests be sent on. */
export function mayReplay(
  from: { readonly organization: string; readonly network: number },
  to: { readonly organization: string; readonly network: number },
): boolean {
  return from.organization === to.organization && from.network === to.network
}
