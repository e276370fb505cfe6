import { encodeFrame } from '@roost/api'
import { describeError, type MessageSocket } from '@roost/base'
import type { SessionEnd } from '@roost/core'
import { dataBytes } from './relay-program.ts'

const [END, OPEN, RESET, CONTROL] = [1, 3, 4, 5]

interface Carried {
  /** null: it could not be connected. */
  readonly agent: MessageSocket | null
  /** Ends that were seen, of two. */
  ends: number
}

/**
 * Carries connections to machines: each to the one that `connect` finds for it, so that one proxy goes on over a release. Ends
 * when the client does, or after an error of its.
 */
export async function relayConnections(
  client: MessageSocket,
  messages: AsyncIterator<Uint8Array>,
  /** A socket to the agent of a machine, opened or known; `begin` reads it where it is new. */
  connect: (begin: (agent: MessageSocket) => void) => Promise<MessageSocket>,
): Promise<SessionEnd> {
  const streams = new Map<number, Carried>()
  const agents = new Set<MessageSocket>()
  const count = { bytesIn: 0, bytesOut: 0, connections: 0 }

  const note = (message: Uint8Array) => {
    const [kind, stream] = [message[0], streamOf(message)]
    const carried = streams.get(stream)
    if (carried === undefined) return
    if (kind === END) carried.ends++
    if (kind === RESET || carried.ends >= 2) streams.delete(stream)
  }
  const reset = (stream: number, why: string) =>
    client.send(encodeFrame({ kind: 'reset', stream, why })).catch(() => {})

  const begin = (agent: MessageSocket) => {
    agents.add(agent)
    void (async () => {
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
      agents.delete(agent)
      agent.close()
      for (const [stream, carried] of streams)
        if (carried.agent === agent) {
          streams.delete(stream)
          await reset(stream, 'the connection to the host of the machine broke')
        }
    })()
  }

  let reason = 'the client left'
  try {
    for (let next = await messages.next(); !next.done; next = await messages.next()) {
      const message = next.value
      const stream = streamOf(message)
      if (message[0] === OPEN) {
        count.connections++
        try {
          const agent = await connect(begin)
          streams.set(stream, { agent, ends: 0 })
          await agent.send(message)
        } catch (error) {
          streams.delete(stream)
          await reset(stream, describeError(error))
        }
        continue
      }
      count.bytesIn += dataBytes(message)
      const agent = streams.get(stream)?.agent
      note(message)
      // One that breaks resets its connections by itself.
      await agent?.send(message).catch(() => {})
    }
  } catch (error) {
    reason = describeError(error)
  }
  for (const agent of agents) agent.close()
  client.close()
  return { exitCode: null, reason, ...count }
}

function streamOf(message: Uint8Array): number {
  return message.length < 5
    ? 0
    : new DataView(message.buffer, message.byteOffset, message.byteLength).getUint32(1)
}
