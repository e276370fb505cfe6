import { encodeFrame } from '@roost/api'
import { describeError, type MessageSocket } from '@roost/base'
import type { SessionEnd } from '@roost/core'
import { dataBytes } from './relay-program.ts'

const [END, OPEN, RESET, CONTROL] = [1, 3, 4, 5]
/** Of frames that wait for hosts, in a session: as many as 128 full windows. Who sends more waits until there are less. */
const WAITING_BYTES_MAX = 33_554_432
/** Beside its own bytes, what a frame costs while it waits; a connection that is being made costs more. */
const FRAME_BYTES = 256
const OPEN_BYTES = 32_768

interface Carried {
  /** null: it is not connected. */
  agent: MessageSocket | null
  /** Ends that were seen, of two. */
  ends: number
  /** The last of its frames. Each waits for the one before, and nothing else does. Never rejects. */
  last: Promise<void>
}

/** The machine that a new connection goes to, and how to reach its host. */
export interface FoundPort {
  readonly machine: string
  /** The socket has been told which port is wanted. */
  open(): Promise<MessageSocket>
}

/**
 * Carries connections to machines: each to the one that `find` finds for it, so that one proxy goes on over a release, and over
 * one socket for all that go to the same machine. Frames of a connection keep their order; a host that does not answer, or not
 * fast enough, holds up its own connections only. Ends when the client does, or after an error of its.
 */
export async function relayConnections(
  client: MessageSocket,
  messages: AsyncIterator<Uint8Array>,
  find: () => Promise<FoundPort>,
): Promise<SessionEnd> {
  const streams = new Map<number, Carried>()
  const agents = new Map<string, Promise<MessageSocket>>()
  const count = { bytesIn: 0, bytesOut: 0, connections: 0 }
  const waiting = { bytes: 0, wake: () => {} }
  const waitingAtMost = async (bytes: number) => {
    while (waiting.bytes > bytes)
      await new Promise<void>((resolve) => {
        waiting.wake = resolve
      })
  }

  const note = (message: Uint8Array) => {
    const [kind, stream] = [message[0], streamOf(message)]
    const carried = streams.get(stream)
    if (carried === undefined) return
    if (kind === END) carried.ends++
    if (kind === RESET || carried.ends >= 2) streams.delete(stream)
  }
  const reset = (stream: number, why: string) =>
    client.send(encodeFrame({ kind: 'reset', stream, why })).catch(() => {})

  const readFrom = async (agent: MessageSocket) => {
    try {
      for await (const message of agent.messages) {
        count.bytesOut += dataBytes(message)
        if (message[0] === CONTROL) continue
        note(message)
        await client.send(message)
      }
    } catch {
      // Said below, to each connection that it had.
    }
    agent.close()
    for (const [stream, carried] of streams)
      if (carried.agent === agent) {
        streams.delete(stream)
        await reset(stream, 'the connection to the host of the machine broke')
      }
  }
  const agentOf = async ({ machine, open }: FoundPort) => {
    const known = agents.get(machine)
    if (known !== undefined) return known
    const opening = open()
    agents.set(machine, opening)
    const forget = () => {
      if (agents.get(machine) === opening) agents.delete(machine)
    }
    opening.then((agent) => {
      agent.closed.addEventListener('abort', forget)
      void readFrom(agent).finally(forget)
    }, forget)
    return opening
  }

  const carry = async (carried: Carried, stream: number, message: Uint8Array) => {
    if (message[0] !== OPEN) {
      note(message)
      // One that breaks resets its connections by itself.
      await carried.agent?.send(message).catch(() => {})
      return
    }
    try {
      carried.agent = await agentOf(await find())
      await carried.agent.send(message)
    } catch (error) {
      carried.agent = null
      streams.delete(stream)
      await reset(stream, describeError(error))
    }
  }

  let reason = 'the client left'
  try {
    for (let next = await messages.next(); !next.done; next = await messages.next()) {
      const message = next.value
      const stream = streamOf(message)
      count.bytesIn += dataBytes(message)
      if (message[0] === OPEN) {
        if (streams.has(stream)) throw new Error('a stream was opened that can not be')
        count.connections++
        streams.set(stream, { agent: null, ends: 0, last: Promise.resolve() })
      }
      const carried = streams.get(stream)
      if (carried === undefined) continue
      const bytes = message.length + (message[0] === OPEN ? OPEN_BYTES : FRAME_BYTES)
      waiting.bytes += bytes
      carried.last = carried.last
        .then(() => carry(carried, stream, message))
        .then(() => {
          waiting.bytes -= bytes
          waiting.wake()
        })
      await waitingAtMost(WAITING_BYTES_MAX)
    }
  } catch (error) {
    reason = describeError(error)
  }
  client.close()
  // What was read is carried; what is still being connected ends with the client.
  await waitingAtMost(0)
  for (const agent of agents.values()) (await agent).close()
  return { exitCode: null, reason, ...count }
}

function streamOf(message: Uint8Array): number {
  return message.length < 5
    ? 0
    : new DataView(message.buffer, message.byteOffset, message.byteLength).getUint32(1)
}
