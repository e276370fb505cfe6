import { describe, expect, test } from 'vitest'
import { FAULTS, type Fault } from './faults.ts'
import { runSeeds } from './run-seeds.ts'
import { type SimResult, simulate } from './simulate.ts'

/** `SEED=7` runs that one and prints its timeline; `SEEDS=1000` runs so many, from `FIRST_SEED` (default 1). */
const ONE = process.env['SEED']
const FIRST = Number(ONE ?? process.env['FIRST_SEED'] ?? 1)
const COUNT = ONE === undefined ? Number(process.env['SEEDS'] ?? 300) : 1
/** In so many worlds everything happens that is rare. */
const MANY = 100
const LINES_SHOWN = 150
const LARGE = 20

function report({ seed, problems, timeline }: SimResult): string {
  return [
    `seed ${seed} did not settle; run it alone with SEED=${seed}`,
    ...problems.map((problem) => `  ${problem}`),
    `last of ${timeline.length} lines:`,
    ...timeline.slice(-LINES_SHOWN),
  ].join('\n')
}

function summary(results: readonly SimResult[], faults: ReadonlyMap<Fault, number>): string {
  const sum = (of: (result: SimResult) => number) => results.reduce((n, r) => n + of(r), 0)
  const slowestMs = Math.max(...results.map((r) => r.settledMs))
  const large = results.filter((r) => r.hosts > LARGE).length
  return [
    `${results.length} seeds (${large} of more than ${LARGE} hosts), ${sum((r) => r.hosts)} hosts, ${sum((r) => r.events)} events, ` +
      `${sum((r) => r.machines)} machines made by hand, ${sum((r) => r.releases.complete)} releases complete, ` +
      `${sum((r) => r.releases.failed)} failed; settled within ${slowestMs / 1000} s of simulated time`,
    ...FAULTS.map((fault) => `  ${String(faults.get(fault) ?? 0).padStart(7)}  ${fault}`),
  ].join('\n')
}

describe('one server, its hosts, and everything going wrong', () => {
  const faults = new Map<Fault, number>()

  test(`it settles from each of ${COUNT} seeds`, { timeout: 24 * 3_600_000 }, async () => {
    const results = await runSeeds(FIRST, COUNT)
    for (const result of results)
      for (const [fault, times] of result.faults)
        faults.set(fault, (faults.get(fault) ?? 0) + times)
    if (ONE !== undefined) console.log(results[0]?.timeline.join('\n'))
    const bad = results.find((result) => result.problems.length > 0)
    if (bad) throw new Error(report(bad))
    console.log(summary(results, faults))
  })

  test.skipIf(COUNT < MANY)('every kind of fault has happened', () => {
    expect(FAULTS.filter((fault) => (faults.get(fault) ?? 0) === 0)).toEqual([])
  })

  test('the same seed makes the same timeline', { timeout: 60_000 }, async () => {
    const [first, second] = [await simulate(FIRST), await simulate(FIRST)]
    expect(second.timeline).toEqual(first.timeline)
  })
})
