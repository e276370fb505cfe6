import { PlatformError } from './platform-error.ts'

/** Each session costs a shell, tini and the program beside it, and counts among the machine's own processes. */
export const SESSIONS_PER_MACHINE = 128
/** That go through one program: an agent, or a server. */
export const SESSIONS_IN_ALL = 512

/** How many sessions may be open; one more is refused with `too_many`, by the name of the limit. */
export function createSessionPlaces(max: { readonly perKey: number; readonly all: number }) {
  const open = new Map<string, number>()
  const state = { all: 0 }
  return {
    /** Holds a place while `work` goes on. */
    async use<T>(key: string, of: string, work: () => Promise<T>): Promise<T> {
      const mine = open.get(key) ?? 0
      if (mine >= max.perKey)
        throw new PlatformError(
          'too_many',
          `${of} has ${max.perKey} sessions open, which is the limit (sessions per machine); end one first`,
          { retry: 'later' },
        )
      if (state.all >= max.all)
        throw new PlatformError(
          'too_many',
          `${max.all} sessions are open, which is the limit (sessions in all); end one first`,
          { retry: 'later' },
        )
      open.set(key, mine + 1)
      state.all++
      try {
        return await work()
      } finally {
        state.all--
        const left = (open.get(key) ?? 1) - 1
        if (left === 0) open.delete(key)
        else open.set(key, left)
      }
    },
  }
}
export type SessionPlaces = ReturnType<typeof createSessionPlaces>
