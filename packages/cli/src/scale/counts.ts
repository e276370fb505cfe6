import type { AppStatusReply } from '@roost/api'
import { nearest } from '../config/reader.ts'
import { usage } from '../failure/failure.ts'

export type Counts = Readonly<Record<string, number>>

const COUNT_MAX = 500

/** Machines of a process group by region; those on their way out don't count. Default: of all groups. */
export function countsOf(status: Pick<AppStatusReply, 'machines'>, group?: string): Counts {
  const counts: Record<string, number> = {}
  for (const { region, state, group: own } of status.machines)
    if (state !== 'destroyed' && state !== 'destroying' && (group ?? own) === own)
      counts[region] = (counts[region] ?? 0) + 1
  return counts
}

/**
 * What `scale count` asks for, by process group. `web=2 worker=1` are numbers of groups, in the region that is named, else
 * spread over those that the group is in. Anything else is for one group: the named one, else the default group.
 */
export function wantedByGroup(
  said: readonly string[],
  options: { readonly region?: string | undefined; readonly group?: string | undefined },
  status: Pick<AppStatusReply, 'machines'>,
  groups: readonly string[],
): Readonly<Record<string, Counts>> {
  const [first = 'app'] = groups
  const ofGroups = said.filter((word) => groups.includes(word.split('=')[0] ?? ''))
  const now = (group: string) => {
    const own = countsOf(status, group)
    if (Object.keys(own).length > 0) return own
    // One that has none yet comes where the app is.
    const [region] = Object.keys(countsOf(status, first))
    return region === undefined ? own : { [region]: 0 }
  }
  if (ofGroups.length === 0) {
    const group = options.group === undefined ? first : checkedGroup(options.group, groups)
    return { [group]: wantedCounts(said, options.region, now(group)) }
  }
  if (options.group !== undefined)
    throw usage('--process-group goes with a number or REGION=NUMBER, not with GROUP=NUMBER')
  if (ofGroups.length < said.length)
    throw usage(
      'either GROUP=NUMBER for each process group, or REGION=NUMBER for each region of one',
      `roost scale count ${first}=2 --region ams`,
    )
  return Object.fromEntries(
    ofGroups.map((word) => {
      const [group = '', count = ''] = word.split('=')
      return [group, wantedCounts([count], options.region, now(group))]
    }),
  )
}

export function checkedGroup(said: string, groups: readonly string[]): string {
  if (groups.includes(said)) return said
  const near = nearest(said, groups, (name) => name)
  throw usage(
    `there is no process group "${said}"; there ${groups.length === 1 ? 'is' : 'are'} ${groups.join(', ')}`,
    near === null ? undefined : `--process-group ${near}`,
  )
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
