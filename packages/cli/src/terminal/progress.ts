import { stripVTControlCharacters } from 'node:util'
import type { CliContext, Screen } from '../cli-context.ts'
import { type Style, styleOf } from './style.ts'

/** What is under way: lines that change in place on a terminal, a line for each piece of news elsewhere. */
export interface Progress {
  readonly style: Style
  /** Stays above what changes. */
  line(text: string): void
  update(key: string, text: string): void
  finish(key: string, how: 'done' | 'failed', text: string): void
  /** Only where lines can change in place, until it is null: how far something has come that says nothing by itself. */
  passing(key: string, text: string | null): void
  /** Leaves what there is to see on the screen as it is. */
  stop(): void
}

const FRAMES = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏'
const FRAME_MS = 120
const LINES_MAX = 20

export function progressOn(context: CliContext, screen: Screen): Progress {
  const live =
    screen.isTTY === true && context.env['CI'] === undefined && context.env['TERM'] !== 'dumb'
  return live ? liveProgress(context, screen) : plainProgress(context, screen)
}

function plainProgress(context: CliContext, screen: Screen): Progress {
  const last = new Map<string, string>()
  const say = (key: string, text: string) => {
    if (last.get(key) !== text) screen.write(`${text}\n`)
    last.set(key, text)
  }
  return {
    style: styleOf(context, screen),
    line: (text) => screen.write(`${text}\n`),
    update: say,
    finish: (key, _, text) => say(key, text),
    passing: () => {},
    stop: () => {},
  }
}

function liveProgress(context: CliContext, screen: Screen): Progress {
  const style = styleOf(context, screen)
  const items = new Map<string, { text: string; state: 'busy' | 'done' | 'failed' }>()
  const drawn = { lines: 0, frame: 0 }
  let timer: NodeJS.Timeout | null = null

  const rows = (): string[] => {
    const all = [...items.values()].map(({ text, state }) => {
      const mark =
        state === 'done'
          ? style.green('✔')
          : state === 'failed'
            ? style.red('✘')
            : (FRAMES[drawn.frame % FRAMES.length] ?? '')
      return `${mark} ${cut(text, (screen.columns ?? 80) - 3)}`
    })
    if (all.length <= LINES_MAX) return all
    return [...all.slice(0, LINES_MAX), style.dim(`  and ${all.length - LINES_MAX} more`)]
  }
  const erase = () => {
    if (drawn.lines > 0) screen.write(`\x1b[${drawn.lines}A\x1b[J`)
    drawn.lines = 0
  }
  const draw = () => {
    const lines = rows()
    erase()
    if (lines.length > 0) screen.write(`${lines.join('\n')}\n`)
    drawn.lines = lines.length
  }
  const busy = () => [...items.values()].some(({ state }) => state === 'busy')
  const tick = () => {
    drawn.frame += 1
    draw()
    if (!busy()) rest()
  }
  const busyWith = (key: string, text: string) => {
    items.set(key, { text, state: 'busy' })
    timer ??= setInterval(tick, FRAME_MS).unref()
    draw()
  }
  const rest = () => {
    if (timer !== null) clearInterval(timer)
    timer = null
  }
  return {
    style,
    line(text) {
      erase()
      screen.write(`${text}\n`)
      draw()
    },
    update: busyWith,
    passing(key, text) {
      if (text !== null) return busyWith(key, text)
      if (items.delete(key)) draw()
    },
    finish(key, how, text) {
      items.set(key, { text, state: how })
      draw()
    },
    stop() {
      rest()
      draw()
      items.clear()
      drawn.lines = 0
    },
  }
}

function cut(text: string, columns: number): string {
  const plain = stripVTControlCharacters(text)
  return plain.length <= columns ? text : `${plain.slice(0, Math.max(1, columns - 1))}…`
}
