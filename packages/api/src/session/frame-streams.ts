import { decodeFrame, encodeFrame, FRAME_DATA_BYTES_MAX, WINDOW_BYTES } from './frames.ts'

/** What carries frames: a WebSocket, or in tests anything. */
export interface FrameCarrier {
  send(message: Uint8Array): Promise<void>
  readonly messages: AsyncIterable<Uint8Array>
  close(reason?: string): void
}

/** One stream of a session, both directions. */
export interface FrameStream {
  readonly id: number
  /** Resolves when it may be followed by more. Throws once the stream or the session is over. */
  write(bytes: Uint8Array): Promise<void>
  /** Nothing more comes from here. */
  end(): Promise<void>
  /** Over in both directions. */
  reset(why: string): void
  /** For one reader. Throws where the stream was reset or the session broke. Reading makes room for more. */
  readonly bytes: AsyncIterable<Uint8Array>
}

export interface FrameStreams {
  /** A stream that is known, or begins now. */
  stream(id: number): FrameStream
  /** As `stream`, and tells the other end. */
  open(id: number): FrameStream
  control(value: unknown): Promise<void>
  /** Forgets a stream that is over in both directions. */
  forget(id: number): void
  /** Reads frames until the session is over; then all streams are. Throws where it broke. Called once. */
  run(heard: {
    control(value: unknown): void
    /** The other end has begun a stream. Absent: it may not. */
    opened?(stream: FrameStream): void
  }): Promise<void>
  close(reason?: string): void
}

const STREAMS_MAX = 1024

interface State {
  credit: number
  /** Read, and not yet told. */
  taken: number
  readonly waiting: Uint8Array[]
  waitingBytes: number
  ended: boolean
  failure: Error | null
  wakeReader(): void
  wakeWriter(): void
}

/** Streams over one socket, each with its own window: see `frames.ts`. */
export function frameStreams(carrier: FrameCarrier): FrameStreams {
  const streams = new Map<number, State>()
  const over = { failure: null as Error | null }

  const state = (id: number): State => {
    const known = streams.get(id)
    if (known !== undefined) return known
    const made: State = {
      credit: WINDOW_BYTES,
      taken: 0,
      waiting: [],
      waitingBytes: 0,
      ended: false,
      failure: over.failure,
      wakeReader: () => {},
      wakeWriter: () => {},
    }
    streams.set(id, made)
    return made
  }
  const wake = (one: State) => {
    one.wakeReader()
    one.wakeWriter()
  }
  const fail = (one: State, failure: Error) => {
    one.failure ??= failure
    wake(one)
  }

  function streamOf(id: number): FrameStream {
    const mine = state(id)
    async function* read(): AsyncGenerator<Uint8Array> {
      for (;;) {
        const next = mine.waiting.shift()
        if (next !== undefined) {
          yield next
          mine.waitingBytes -= next.length
          mine.taken += next.length
          if (mine.taken >= WINDOW_BYTES / 4 && !mine.ended && mine.failure === null) {
            const bytes = mine.taken
            mine.taken = 0
            await carrier.send(encodeFrame({ kind: 'window', stream: id, bytes })).catch(() => {})
          }
        } else if (mine.ended) return
        else if (mine.failure !== null) throw mine.failure
        else
          await new Promise<void>((resolve) => {
            mine.wakeReader = resolve
          })
      }
    }
    return {
      id,
      bytes: read(),
      async write(bytes) {
        for (let from = 0; from < bytes.length; ) {
          if (mine.failure !== null) throw mine.failure
          if (mine.credit === 0) {
            await new Promise<void>((resolve) => {
              mine.wakeWriter = resolve
            })
            continue
          }
          const size = Math.min(bytes.length - from, mine.credit, FRAME_DATA_BYTES_MAX)
          mine.credit -= size
          const part = bytes.subarray(from, from + size)
          from += size
          await carrier.send(encodeFrame({ kind: 'data', stream: id, bytes: part }))
        }
      },
      end: () => carrier.send(encodeFrame({ kind: 'end', stream: id })),
      reset(why) {
        if (mine.failure !== null) return
        fail(mine, new Error(why))
        carrier.send(encodeFrame({ kind: 'reset', stream: id, why })).catch(() => {})
      },
    }
  }

  return {
    stream: streamOf,
    open(id) {
      const stream = streamOf(id)
      carrier.send(encodeFrame({ kind: 'open', stream: id })).catch(() => {})
      return stream
    },
    control: (value) => carrier.send(encodeFrame({ kind: 'control', value })),
    forget: (id) => void streams.delete(id),
    close: (reason) => carrier.close(reason),
    async run(heard) {
      let failure = new Error('the session is over')
      try {
        for await (const message of carrier.messages) {
          const frame = decodeFrame(message)
          if (frame === null) throw new Error('what came is no frame of a session')
          if (frame.kind === 'control') {
            heard.control(frame.value)
            continue
          }
          if (frame.kind === 'open') {
            if (heard.opened === undefined || streams.has(frame.stream))
              throw new Error('a stream was opened that can not be')
            if (streams.size >= STREAMS_MAX) {
              const why = `a session has at most ${STREAMS_MAX} connections`
              await carrier.send(encodeFrame({ kind: 'reset', stream: frame.stream, why }))
            } else heard.opened(streamOf(frame.stream))
            continue
          }
          // What comes late for a stream that is over means nothing.
          const one = streams.get(frame.stream)
          if (one === undefined) continue
          if (frame.kind === 'data') {
            one.waiting.push(frame.bytes)
            one.waitingBytes += frame.bytes.length
            if (one.waitingBytes + one.taken > WINDOW_BYTES)
              throw new Error('more came on a stream than there was room for')
          } else if (frame.kind === 'end') one.ended = true
          else if (frame.kind === 'window') one.credit += frame.bytes
          else fail(one, new Error(frame.why))
          wake(one)
        }
      } catch (error) {
        failure = error instanceof Error ? error : new Error(String(error))
        throw failure
      } finally {
        over.failure = failure
        for (const one of streams.values()) fail(one, failure)
        carrier.close()
      }
    },
  }
}
