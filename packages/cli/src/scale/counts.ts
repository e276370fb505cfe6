import type { AppStatusReply } from '@roost/api'
import { usage } from '../failure/failure.ts'

export type Counts = Readonly<Record<string, number>>

const COUNT_MAX = 500

/** Machines by region; those on their way out don't count. */
export function countsOf(status: Pick<AppStatusReply, 'machines'>): Counts {
  const counts: Record<string, number> = {}
  for (const { region, state } of status.machines)
    if (state !== 'destroyed' && state !== 'destroying') counts[region] = (counts[region] ?? 0) + 1
  return counts
}

/**
 * What `scale count` asks for, from what there is: `ams=2 iad=1` sets these regions, `3 --region ams` that one, and a
 * bare `3` is the sum, spread evenly over the regions in use. Regions that are not named stay as they are.
 */
export function wantedCounts(
  said: readonly string[],
  region: string | undefined,
  now: Counts,
): Counts {
  const pairs = said.filter((word) => word.includes('='))
  const [bare, ...more] = said.filter((word) => !word.includes('='))
  if (bare !== undefined && (pairs.length > 0 || more.length > 0))
    throw usage(
      'either one number, or REGION=NUMBER for each region',
      'roost scale count ams=2 iad=1',
    )
  if (bare === undefined) {
    if (region !== undefined) throw usage('--region goes with a number, not with REGION=NUMBER')
    const set = pairs.map((pair) => {
      const [name = '', count = ''] = pair.split('=')
      return [checkedRegion(name), checkedCount(count)] as const
    })
    return { ...now, ...Object.fromEntries(set) }
  }
  const count = checkedCount(bare)
  if (region !== undefined) return { ...now, [checkedRegion(region)]: count }
  const regions = Object.keys(now)
  if (regions.length === 0)
    throw usage(
      'no machine runs yet: say in which region',
      `roost scale count ${count} --region ams`,
    )
  // More machines today, then by name: who has one machine more does not change by itself.
  regions.sort((a, b) => (now[b] ?? 0) - (now[a] ?? 0) || a.localeCompare(b))
  const each = Math.floor(count / regions.length)
  return Object.fromEntries(
    regions.map((name, n) => [name, each + (n < count % regions.length ? 1 : 0)]),
  )
}

function checkedCount(text: string): number {
  const count = Number(text)
  if (/^\d+$/.test(text) && count <= COUNT_MAX) return count
  throw usage(`"${text}" is no number of machines: 0 to ${COUNT_MAX}`)
}

function checkedRegion(text: string): string {
  if (/^[a-z][a-z0-9]{1,11}$/.test(text)) return text
  throw usage(`"${text}" is no region: they look like ams`, 'roost regions')
}
