import { stripVTControlCharacters } from 'node:util'
import Table from 'cli-table3'
import type { Screen } from '../cli-context.ts'

const GAP = '  '
const COLUMN_MIN = 8

/** Columns under their headings. On a terminal the widest columns are cut so that each row stays on one line. */
export function tableText(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  screen: Screen,
): string {
  const natural = headings.map((heading, n) =>
    Math.max(heading.length, ...rows.map((row) => stripVTControlCharacters(row[n] ?? '').length)),
  )
  const widths = fitted(natural, screen.isTTY === true ? (screen.columns ?? 80) : null)
  const none = ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left']
  const table = new Table({
    head: [...headings],
    colWidths: widths,
    chars: {
      ...Object.fromEntries(
        [...none, 'bottom-right', 'left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'].map(
          (name) => [name, ''],
        ),
      ),
      middle: GAP,
    },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  })
  table.push(...rows.map((row) => [...row]))
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

function fitted(natural: readonly number[], columns: number | null): number[] {
  const widths = [...natural]
  if (columns === null) return widths
  const total = () => widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1))
  while (total() > columns) {
    const widest = widths.indexOf(Math.max(...widths))
    const width = widths[widest] ?? 0
    if (width <= COLUMN_MIN) break
    widths[widest] = Math.max(COLUMN_MIN, width - (total() - columns))
  }
  return widths
}
