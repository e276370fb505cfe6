import { type Loop, startLoop } from '@roost/base'
import type { SessionEnd, SessionRecord } from '@roost/core'
import type { Deps } from '../deps.ts'
import { openSessions, putSession } from '../store/sessions.ts'

const LAP_MS = 60_000
const COMMAND_CHARS_MAX = 4000

export type NewSession = Omit<SessionRecord, keyof SessionEnd | 'id' | 'begunAt' | 'endedAt'>

/** Writes down who was where. What can't be written down is not begun. */
export interface SessionLog {
  begin(session: NewSession): Promise<OpenSession>
  /** Ends what a server left open that was killed, and what could not be written when it ended. */
  start(): Loop
}

export interface OpenSession {
  /** Never throws: what can't be written now is written later. */
  end(end: SessionEnd): Promise<void>
}

const UNKNOWN: SessionEnd = {
  exitCode: null,
  reason: 'the server was stopped',
  bytesIn: 0,
  bytesOut: 0,
  connections: 0,
}

export function createSessionLog({
  store,
  clock,
  ids,
  log,
}: Pick<Deps, 'store' | 'clock' | 'ids' | 'log'>): SessionLog {
  const live = new Set<string>()
  /** Ended, and not yet written. As many as there were sessions while the disk was full. */
  const unwritten = new Map<string, SessionRecord>()
  const write = (session: SessionRecord) => store.transaction((tx) => putSession(tx, session))

  async function lap(): Promise<void> {
    for (const [id, session] of unwritten) {
      await write(session)
      unwritten.delete(id)
    }
    const open = await store.read(openSessions)
    for (const session of open.filter(({ id }) => !live.has(id)))
      await write({ ...session, ...UNKNOWN, endedAt: clock.now() })
  }

  return {
    async begin(given) {
      const session: SessionRecord = {
        ...given,
        command: given.command.slice(0, COMMAND_CHARS_MAX),
        ...UNKNOWN,
        reason: null,
        id: ids.instanceId(clock.now()),
        begunAt: clock.now(),
        endedAt: null,
      }
      live.add(session.id)
      await write(session).catch((error: unknown) => {
        live.delete(session.id)
        throw error
      })
      return {
        async end(end) {
          const ended = { ...session, ...end, endedAt: clock.now() }
          try {
            await write(ended)
          } catch (error) {
            log.warn('write how a session ended', { session: session.id, error })
            unwritten.set(session.id, ended)
          } finally {
            live.delete(session.id)
          }
        },
      }
    },
    start: () => startLoop({ name: 'sessions', periodMs: LAP_MS, clock, log, lap }),
  }
}
