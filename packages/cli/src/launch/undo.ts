import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { type ApiClient, ApiError } from '@roost/api'
import { type Clock, systemClock } from '@roost/base'

/** What a launch has made so far, so that one that fails leaves nothing. */
export interface Made {
  /** Written whole or not at all. */
  write(path: string, content: string): void
  /** `reserving`: the request that reserves the app; it may still be on its way when all is undone. */
  app(reserving: Promise<string>): Promise<string>
  /** Returns what could not be undone within that time, each as the command that does it. */
  undo(msMax: number): Promise<readonly string[]>
}

/** For `undo`: Ctrl-C ends a command within a second, and what has failed has time to clean up. */
export const INTERRUPTED_MS_MAX = 800
export const FAILED_MS_MAX = 10_000

export function createMade(client: ApiClient, clock: Clock = systemClock): Made {
  const files: (() => void)[] = []
  let reserving: Promise<string> | null = null
  return {
    write(path, content) {
      const before = existsSync(path) ? readFileSync(path) : null
      const draft = `${path}.${process.pid}.new`
      try {
        writeFileSync(draft, content)
        renameSync(draft, path)
      } catch (error) {
        rmSync(draft, { force: true })
        throw error
      }
      files.unshift(() => {
        // Somebody may have begun to work on it.
        if (!existsSync(path) || readFileSync(path, 'utf8') !== content) return
        if (before === null) rmSync(path)
        else writeFileSync(path, before)
      })
    },
    app(promise) {
      reserving = promise
      return promise
    },
    async undo(msMax) {
      for (const restore of files.splice(0)) restore()
      if (reserving === null) return []
      const state: { name: string | null; refused: boolean } = { name: null, refused: false }
      const over = new AbortController()
      const removing = remove(client, reserving, state).catch(() => false)
      const late = clock.sleep(msMax, over.signal).then(() => false)
      const done = await Promise.race([removing, late])
      over.abort()
      if (done || state.refused) return []
      return [
        state.name === null
          ? 'roost apps list   # whether the name was reserved is not known'
          : `roost apps destroy ${state.name}   # it is still reserved`,
      ]
    },
  }
}

/** Only what nobody has used meanwhile: an app that serves is no leftover. */
async function remove(
  client: ApiClient,
  reserving: Promise<string>,
  state: { name: string | null; refused: boolean },
): Promise<boolean> {
  try {
    state.name = await reserving
  } catch (error) {
    state.refused = error instanceof ApiError
    return false
  }
  const params = { app: state.name }
  const { machines } = await client.appStatus({ params })
  if (machines.some((machine) => !['destroyed', 'destroying'].includes(machine.state))) return false
  await client.deleteApp({ params, query: { force: 'true' } })
  return true
}
