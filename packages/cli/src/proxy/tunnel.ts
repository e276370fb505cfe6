import {
  type FrameStream,
  type FrameStreams,
  frameStreams,
  type PortStart,
  sessionEvent,
} from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { Failure } from '../failure/failure.ts'
import { apiErrorOf, openSocket } from '../session/open-socket.ts'

/** Connections to a port of machines, over one session. When that breaks the next connection begins another. */
export interface Tunnel {
  /** Which machine answers just now. */
  ready(): Promise<{ readonly machine: string; readonly region?: string | undefined }>
  connect(): Promise<{ readonly stream: FrameStream; forget(): void }>
  close(): void
}

const START_MS = 15_000

interface Session {
  readonly streams: FrameStreams
  readonly started: { readonly machine: string; readonly region?: string | undefined }
  over: boolean
  next: number
}

export function createTunnel(
  context: Pick<CliContext, 'env'>,
  app: string,
  start: PortStart,
): Tunnel {
  const state: { session: Promise<Session> | null } = { session: null }

  async function begin(): Promise<Session> {
    const socket = await openSocket(context, 'openPort', { app })
    const streams = frameStreams(socket)
    return new Promise((resolve, reject) => {
      const session: { value: Session | null } = { value: null }
      const fail = (error: Error) => {
        clearTimeout(timer)
        if (session.value !== null) session.value.over = true
        reject(error)
        streams.close()
      }
      const timer = setTimeout(
        () => fail(new Failure('the server did not answer in time', { exitCode: 3 })),
        START_MS,
      )
      const cut = () => fail(new Failure('the session was cut', { exitCode: 3 }))
      streams
        .run({
          control(value) {
            const event = sessionEvent.safeParse(value).data
            if (event === undefined) return
            if ('error' in event)
              return fail(apiErrorOf('openPort', event.error.code, event.error.message))
            if (!('started' in event) || session.value !== null) return
            clearTimeout(timer)
            session.value = { streams, started: event.started, over: false, next: 1 }
            resolve(session.value)
          },
        })
        .then(cut, cut)
      streams.control(start).catch(fail)
    })
  }

  async function current(): Promise<Session> {
    const known = await state.session?.catch(() => null)
    if (known && !known.over) return known
    // Others may have begun a new one while we looked.
    const mine = begin()
    state.session = mine
    return mine
  }

  return {
    ready: async () => (await current()).started,
    async connect() {
      const session = await current()
      const { streams } = session
      const id = session.next++
      return { stream: streams.open(id), forget: () => streams.forget(id) }
    },
    close: () => void state.session?.then(({ streams }) => streams.close()).catch(() => {}),
  }
}
