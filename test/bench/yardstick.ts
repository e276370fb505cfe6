import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../e2e/terminal.ts'

/** One line of the report: ours beside a yardstick measured in the same run, since these machines are noisy. */
export interface Comparison {
  readonly name: string
  readonly ours: number
  readonly yardstick: number
  readonly unit: string
  /** What `yardstick` is. */
  readonly against: string
  readonly goal: { readonly kind: 'at-most' | 'at-least'; readonly ratio: number } | null
}

/** A figure that has nothing to be compared with here. */
export interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

export async function timed(what: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await what()
  return performance.now() - start
}

const round = (value: number) =>
  Math.abs(value) >= 100 ? Math.round(value) : Math.round(value * 100) / 100

/** Runs both in turns, ours first in even rounds, and returns the medians. */
export async function interleaved(
  rounds: number,
  ours: () => Promise<number>,
  yardstick: () => Promise<number>,
): Promise<{ ours: number; yardstick: number }> {
  const { only } = await interleavedEach(
    rounds,
    async () => ({ only: await ours() }),
    async () => ({ only: await yardstick() }),
  )
  return only
}

/** The same where one round gives several times. */
export async function interleavedEach<What extends string>(
  rounds: number,
  ours: () => Promise<Readonly<Record<What, number>>>,
  yardstick: () => Promise<Readonly<Record<What, number>>>,
): Promise<Record<What, { ours: number; yardstick: number }>> {
  const a: Readonly<Record<What, number>>[] = []
  const b: Readonly<Record<What, number>>[] = []
  for (let n = 0; n < rounds; n++) {
    if (n % 2 === 0) a.push(await ours())
    b.push(await yardstick())
    if (n % 2 === 1) a.push(await ours())
  }
  const names = Object.keys(a[0] ?? {}) as What[]
  const of = (name: What, all: typeof a) => median(all.map((times) => times[name]))
  return Object.fromEntries(
    names.map((name) => [name, { ours: of(name, a), yardstick: of(name, b) }]),
  ) as Record<What, { ours: number; yardstick: number }>
}

export class Report {
  readonly comparisons: Comparison[] = []
  readonly figures: Figure[] = []

  compare(comparison: Comparison): void {
    this.comparisons.push(comparison)
    const { name, ours, yardstick, unit, against, goal } = comparison
    const ratio = ours / yardstick
    const met =
      goal === null
        ? ''
        : (goal.kind === 'at-most' ? ratio <= goal.ratio : ratio >= goal.ratio)
          ? `goal ${goal.kind === 'at-most' ? '≤' : '≥'} ${goal.ratio}: met`
          : `goal ${goal.kind === 'at-most' ? '≤' : '≥'} ${goal.ratio}: MISSED by ${round(Math.abs(ratio - goal.ratio))}`
    console.log(
      `${name.padEnd(44)} ${round(ours)} ${unit} against ${round(yardstick)} (${against}): ratio ${round(ratio)}  ${met}`,
    )
  }

  figure(name: string, value: number, unit: string): void {
    this.figures.push({ name, value: round(value), unit })
    console.log(`${name.padEnd(44)} ${round(value)} ${unit}`)
  }

  write(): string {
    const folder = join(ROOT, 'bench', 'results')
    mkdirSync(folder, { recursive: true })
    const file = join(folder, `${new Date().toISOString().slice(0, 16).replaceAll(':', '')}.json`)
    const comparisons = this.comparisons.map((c) => ({
      ...c,
      ours: round(c.ours),
      yardstick: round(c.yardstick),
      ratio: round(c.ours / c.yardstick),
    }))
    writeFileSync(file, `${JSON.stringify({ comparisons, figures: this.figures }, null, 2)}\n`)
    return file
  }
}
