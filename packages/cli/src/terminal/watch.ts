import { setTimeout as sleep } from 'node:timers/promises'
import type { CliContext } from '../cli-context.ts'

const PERIOD_MS = 2_000
const CLEAR = '\x1b[H\x1b[2J'

/**
 * Shows something again and again until Ctrl-C, which is how it ends well. On a terminal in the same place, elsewhere whenever it
 * has changed. A look that fails ends it: the first one as any command, a later one too, since nobody watches a picture that stands still.
 */
export async function watchUntilInterrupted(
  context: CliContext,
  look: () => Promise<string>,
  periodMs: number = PERIOD_MS,
): Promise<void> {
  const signal = context.interrupted()
  let last: string | null = null
  while (!signal.aborted) {
    const text = await look()
    if (signal.aborted) return
    if (context.stdout.isTTY === true) context.stdout.write(`${CLEAR}${text}`)
    else if (timeless(text) !== last) context.stdout.write(text)
    last = timeless(text)
    await sleep(periodMs, undefined, { signal }).catch(() => {})
  }
}

/** That time goes by is no news. */
function timeless(text: string): string {
  return text.replace(/ *\d+ (?:s|min|h|d) ago/g, '')
}
