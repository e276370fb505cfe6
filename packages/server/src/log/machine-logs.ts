import { type LogLine, logLine } from '@roost/api'
import type { PeerClient } from '@roost/base'
import type { MachineId } from '@roost/core'

export interface LogRequest {
  readonly machine: MachineId
  readonly lines: number
  readonly follow: boolean
  readonly after?: string
  /** Only what that one says. */
  readonly container?: string | undefined
}

/** Silence of a follower's connection that means that its host is gone: the agent says something every 10 s. */
const IDLE_MS = 25_000

/** Lines of one machine as its agent tells them; `null` where the past ends, and now and then after it. */
export async function* machineLogs(
  agent: PeerClient,
  request: LogRequest,
  signal: AbortSignal,
): AsyncGenerator<LogLine | null> {
  const query = new URLSearchParams({
    lines: String(request.lines),
    follow: String(request.follow),
    ...(request.after === undefined ? {} : { after: request.after }),
    ...(request.container === undefined ? {} : { container: request.container }),
  })
  const path = `/agent/v1/machines/${request.machine}/logs?${query}`
  for await (const value of agent.lines<unknown>('GET', path, { signal, idleMs: IDLE_MS })) {
    const line = logLine.safeParse(value)
    yield line.success ? line.data : null
  }
}

/** The last lines of a machine, as far as its host tells them in time. Never throws: they only adorn an explanation. */
export async function lastLines(
  agent: PeerClient,
  machine: MachineId,
  count: number,
  timeoutMs = 3_000,
): Promise<readonly string[]> {
  const lines: string[] = []
  try {
    const request = { machine, lines: count, follow: false }
    for await (const line of machineLogs(agent, request, AbortSignal.timeout(timeoutMs)))
      if (line !== null) lines.push(line.message)
  } catch {
    // What came until then is better than nothing.
  }
  return lines.slice(-count)
}
