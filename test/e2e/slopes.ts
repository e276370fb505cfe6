import { readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { run } from './terminal.ts'

/**
 * Whether anything grows for ever: memory and file descriptors of each program, disk and rows of each database of a playground, looked at
 * again and again, and a straight line laid through what was seen.
 */
export interface Slope {
  readonly what: string
  readonly first: number
  readonly last: number
  readonly perHour: number
  readonly unit: string
}

export interface Slopes {
  /** The lines through what was seen after `warmUpMs`: caches fill at first. */
  finish(warmUpMs: number): Promise<readonly Slope[]>
}

const EVERY_MS = 30_000
const SAMPLES_MAX = 10_000

/** Programs by the state folder that they are told in their command line. */
const PROGRAMS: readonly (readonly [string, RegExp])[] = [
  ['server', /packages\/server\//],
  ['agent', /packages\/agent\//],
  ['edge', /packages\/edge\//],
  ['haproxy', /^\S*haproxy /],
  ['containerd', /^\S*containerd /],
  ['registry', /^\S*docker-registry /],
]

export function watchSlopes(name: string, regions: readonly string[]): Slopes {
  const samples = new Map<string, { unit: string; points: { atMs: number; value: number }[] }>()
  const look = async () => {
    const atMs = performance.now()
    const found = new Map<string, { unit: string; value: number }>()
    const add = (what: string, unit: string, value: number) =>
      found.set(what, { unit, value: (found.get(what)?.value ?? 0) + value })
    lookAtProcesses(name, regions, add)
    for (const region of regions) await lookAtDisk(name, region, add)
    for (const [what, { unit, value }] of found) {
      const row = samples.get(what) ?? { unit, points: [] }
      samples.set(what, row)
      if (row.points.length < SAMPLES_MAX) row.points.push({ atMs, value })
    }
  }
  const begin = performance.now()
  let looking = look()
  const timer = setInterval(() => {
    looking = looking.then(look)
  }, EVERY_MS)
  return {
    async finish(warmUpMs) {
      clearInterval(timer)
      await looking
      await look()
      return [...samples]
        .map(([what, { unit, points }]) => {
          const kept = points.filter(({ atMs }) => atMs - begin >= warmUpMs)
          return {
            what,
            unit,
            first: kept[0]?.value ?? 0,
            last: kept.at(-1)?.value ?? 0,
            perHour: slopeOf(kept) * 3_600_000,
          }
        })
        .sort((a, b) => (a.what < b.what ? -1 : 1))
    },
  }
}

type Add = (what: string, unit: string, value: number) => void

function lookAtProcesses(name: string, regions: readonly string[], add: Add): void {
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      const region = regions.find((one) => command.includes(`/${name}/${one}`))
      const program = PROGRAMS.find(([, pattern]) => pattern.test(command))
      if (region === undefined || program === undefined) continue
      const pss = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
      add(`${region} ${program[0]} memory`, 'MB', Number(pss?.[1] ?? 0) / 1024)
      add(`${region} ${program[0]} descriptors`, '', readdirSync(`/proc/${pid}/fd`).length)
    } catch {
      // It ended while it was looked at.
    }
  }
}

async function lookAtDisk(name: string, region: string, add: Add): Promise<void> {
  const folder = `/var/lib/roost/playground/${name}/${region}`
  const sizes = await run(['du', '-k', '--max-depth=1', folder])
  for (const line of sizes.stdout.split('\n')) {
    const [kilobytes, path] = line.split('\t')
    if (path !== undefined && path !== folder)
      add(`${region} disk of ${basename(path)}`, 'MB', Number(kilobytes) / 1024)
  }
  const databases = await run([
    'find',
    folder,
    '-maxdepth',
    '2',
    '-regex',
    '.*\\.\\(db\\|sqlite\\)',
  ])
  for (const path of databases.stdout.split('\n').filter((found) => found !== '')) {
    try {
      countRows(path, `${region} ${basename(path)}`, add)
    } catch {
      // It went, or is of another kind (containerd's), or is locked just now: the next look comes soon.
    }
  }
}

function countRows(path: string, label: string, add: Add): void {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    const tables = database
      .prepare("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
      .all()
    for (const { name } of tables) {
      const row = database.prepare(`select count(*) as n from "${String(name)}"`).get()
      add(`${label} rows of ${String(name)}`, '', Number(row?.['n'] ?? 0))
    }
  } finally {
    database.close()
  }
}

/** Least squares: change of the value per millisecond. */
function slopeOf(points: readonly { atMs: number; value: number }[]): number {
  const n = points.length
  if (n < 2) return 0
  const meanX = points.reduce((sum, p) => sum + p.atMs, 0) / n
  const meanY = points.reduce((sum, p) => sum + p.value, 0) / n
  const above = points.reduce((sum, p) => sum + (p.atMs - meanX) * (p.value - meanY), 0)
  const below = points.reduce((sum, p) => sum + (p.atMs - meanX) ** 2, 0)
  return below === 0 ? 0 : above / below
}
