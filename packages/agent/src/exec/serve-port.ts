import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type FrameStream, frameStreams, type PortStart, portStart } from '@roost/api'
import { describeError, drained, type MessageSocket } from '@roost/base'

const CONNECT_MS = 5000

export interface PortParts {
  /** Of the machine, in the order in which they are tried. */
  readonly addresses: readonly string[]
  readonly machine: string
  readonly region: string
  /** What the machine listens on instead, for who was refused. */
  readonly listening: () => Promise<readonly string[]>
}

/** Each stream is a connection to the port that the first frame names. Ends all of them when the caller goes. */
export async function serveConnections(socket: MessageSocket, parts: PortParts): Promise<void> {
  const streams = frameStreams(socket)
  const state: { start: PortStart | null } = { start: null }
  await streams
    .run({
      control(value) {
        if (state.start !== null) throw new Error('a port was named already')
        state.start = portStart.parse(value)
        const { machine, region } = parts
        streams.control({ started: { machine, region } }).catch(() => {})
      },
      opened(stream) {
        if (state.start === null) throw new Error('no port was named')
        void carry(stream, state.start.port, parts).finally(() => streams.forget(stream.id))
      },
    })
    .catch(() => {})
}

/** One connection, each direction ended by itself. Never rejects. */
async function carry(stream: FrameStream, port: number, parts: PortParts): Promise<void> {
  let target: Socket
  try {
    target = await dial(port, parts)
  } catch (error) {
    return stream.reset(describeError(error))
  }
  try {
    await Promise.all([
      (async () => {
        for await (const bytes of stream.bytes) if (!target.write(bytes)) await drained(target)
        target.end()
      })(),
      (async () => {
        for await (const chunk of target) await stream.write(chunk as Buffer)
        await stream.end()
      })(),
    ])
  } catch (error) {
    stream.reset(describeError(error))
  } finally {
    target.destroy()
  }
}

async function dial(port: number, parts: PortParts): Promise<Socket> {
  let failure: unknown = new Error(`machine ${parts.machine} has no address`)
  for (const host of parts.addresses) {
    const target = connect({ host, port, allowHalfOpen: true, timeout: CONNECT_MS })
    try {
      target.on('timeout', () => target.destroy(new Error(`no answer within ${CONNECT_MS} ms`)))
      await once(target, 'connect')
      target.setTimeout(0)
      target.setNoDelay(true)
      target.on('error', () => {})
      return target
    } catch (error) {
      target.on('error', () => {})
      target.destroy()
      failure = error
    }
  }
  if ((failure as NodeJS.ErrnoException).code !== 'ECONNREFUSED') throw failure
  const instead = await parts.listening().catch(() => [])
  throw new Error(
    instead.length === 0
      ? `nothing listens on port ${port} of machine ${parts.machine}, nor on any other`
      : `nothing listens on port ${port} of machine ${parts.machine}; it listens on ${instead.join(', ')}`,
  )
}
