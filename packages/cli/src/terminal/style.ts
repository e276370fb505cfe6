import type { CliContext, Screen } from '../cli-context.ts'

export interface Style {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  green(text: string): string
  yellow(text: string): string
}

/** Colours only where a person sees them and has not said no (https://no-color.org). */
export function styleOf(context: Pick<CliContext, 'env'>, screen: Screen): Style {
  const { env } = context
  const on = screen.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  const paint = (open: number, close: number) => (text: string) =>
    on ? `\x1b[${open}m${text}\x1b[${close}m` : text
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
  }
}

/** What programs write may move the cursor or worse; colours are let through on a terminal, the rest is not. */
export function harmless(text: string, screen: Screen): string {
  const kept = text.replace(ESCAPE, (sequence) =>
    screen.isTTY === true && COLOUR.test(sequence) ? sequence : '',
  )
  return kept.replace(CONTROL, '')
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const ESCAPE = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const COLOUR = /^\x1b\[[0-9;]*m$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]|\x1b(?!\[)/g
