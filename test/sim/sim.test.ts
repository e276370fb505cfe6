import { describe, expect, test } from 'vitest'
import { FAULTS, type Fault } from './faults.ts'
import { type SimResult, simulate } from './simulate.ts'

/** `SEED=7` runs that one and prints its timeline; `SEEDS=1000` runs so many, from `FIRST_SEED` (default 1). */
const ONE = process.env['SEED']
const FIRST = Number(process.env['FIRST_SEED'] ?? 1)
const COUNT = ONE === undefined ? Number(process.env['SEEDS'] ?? 100) : 1
const LINES_SHOWN = 150

function report(result: SimResult): string {
  const { seed, problems, timeline } = result
  return [
    `seed ${seed} did not settle; run it alone with SEED=${seed}`,
    ...problems.map((problem) => `  ${problem}`),
    `last of ${timeline.length} lines:`,
    ...timeline.slice(-LINES_SHOWN),
  ].join('\n')
}

describe('one server, three agents, and everything going wrong', () => {
  const faults = new Map<Fault, number>()

  test(`it settles from each of ${COUNT} seeds`, { timeout: 24 * 3_600_000 }, async () => {
    let [machines, events, slowestMs] = [0, 0, 0]
    for (let n = 0; n < COUNT; n++) {
      const result = await simulate(ONE === undefined ? FIRST + n : Number(ONE))
      if (ONE !== undefined) console.log(result.timeline.join('\n'))
      if (result.problems.length > 0) throw new Error(report(result))
      for (const [fault, times] of result.faults)
        faults.set(fault, (faults.get(fault) ?? 0) + times)
      machines += result.machines
      events += result.events
      slowestMs = Math.max(slowestMs, result.settledMs)
    }
    console.log(
      `${COUNT} seeds, ${machines} machines, ${events} events; settled within ${slowestMs / 1000} s of simulated time\n` +
        FAULTS.map((fault) => `  ${String(faults.get(fault) ?? 0).padStart(7)}  ${fault}`).join(
          '\n',
        ),
    )
  })

  test.skipIf(COUNT < 20)('every kind of fault has happened', () => {
    expect(FAULTS.filter((fault) => (faults.get(fault) ?? 0) === 0)).toEqual([])
  })

  test('the same seed makes the same timeline', { timeout: 60_000 }, async () => {
    const [first, second] = [await simulate(FIRST), await simulate(FIRST)]
    expect(second.timeline).toEqual(first.timeline)
  })
})
