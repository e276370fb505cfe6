import { decodeFrame, encodeFrame, programStart, sessionEvent } from '@roost/api'
import { describeError, type MessageSocket, PlatformError } from '@roost/base'
import type { SessionEnd } from '@roost/core'

const START_MS = 30_000
const HEADER_BYTES = 5

/** A session's first frame: what the client wants. Throws where it is none, or comes too late. */
export async function firstFrame(
  messages: AsyncIterator<Uint8Array>,
): Promise<{ readonly message: Uint8Array; readonly value: unknown }> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new PlatformError('timeout', `nothing was asked for within ${START_MS} ms`)),
      START_MS,
    )
  })
  try {
    const first = await Promise.race([messages.next(), late])
    const frame = first.done ? null : decodeFrame(first.value)
    if (first.done || frame?.kind !== 'control')
      throw new PlatformError('invalid', 'the first frame says what is wanted, in JSON')
    return { message: first.value, value: frame.value }
  } finally {
    clearTimeout(timer)
  }
}

export function parseStart(value: unknown) {
  const parsed = programStart.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new PlatformError('invalid', `${issue?.path.join('.')}: ${issue?.message}`)
}

/** Bytes of data in a frame; 0 of any other kind. */
export function dataBytes(message: Uint8Array): number {
  return message[0] === 0 ? Math.max(0, message.length - HEADER_BYTES) : 0
}

/** Tells a client why its session is over, as far as it still hears. */
export async function tellError(client: MessageSocket, error: unknown): Promise<void> {
  const code = error instanceof PlatformError ? error.code : 'internal'
  const value = { error: { code, message: describeError(error) } }
  await client.send(encodeFrame({ kind: 'control', value })).catch(() => {})
  client.close()
}

/** Carries frames both ways until either end is done. Windows keep what is under way in bounds; the sockets do so too. */
export async function relay(
  client: MessageSocket,
  messages: AsyncIterator<Uint8Array>,
  agent: MessageSocket,
): Promise<SessionEnd> {
  const end = {
    exitCode: null as number | null,
    reason: null as string | null,
    bytesIn: 0,
    bytesOut: 0,
  }
  const up = async () => {
    try {
      for (let next = await messages.next(); !next.done; next = await messages.next()) {
        end.bytesIn += dataBytes(next.value)
        await agent.send(next.value)
      }
      end.reason ??= 'the client left'
    } catch (error) {
      end.reason ??= client.closed.aborted ? reasonOf(client) : describeError(error)
    }
    agent.close()
  }
  const down = async () => {
    let told = false
    try {
      for await (const message of agent.messages) {
        end.bytesOut += dataBytes(message)
        const frame = message[0] === CONTROL ? decodeFrame(message) : null
        const event =
          frame?.kind === 'control' ? sessionEvent.safeParse(frame.value).data : undefined
        if (event !== undefined && 'exit' in event) end.exitCode = event.exit.code
        if (event !== undefined && 'error' in event) end.reason = event.error.message
        if (event !== undefined && ('exit' in event || 'error' in event)) told = true
        await client.send(message)
      }
      if (!told && !client.closed.aborted) throw new Error(reasonOf(agent))
    } catch (cause) {
      if (client.closed.aborted) return
      end.reason ??= BROKE
      await tellError(client, new PlatformError('unavailable', BROKE, { cause }))
    }
    client.close()
  }
  await Promise.all([up(), down()])
  if (end.exitCode !== null) end.reason = null
  return { ...end, connections: 0 }
}

const CONTROL = 5
const BROKE = 'the host of the machine ended the session'

function reasonOf({ closed }: MessageSocket): string {
  return closed.aborted ? describeError(closed.reason) : 'the client left'
}
