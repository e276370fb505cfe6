import type { LogLine } from '@roost/api'
import type { Clock, PeerClient } from '@roost/base'
import type { Host, MachineId } from '@roost/core'
import { type LogRequest, machineLogs } from './machine-logs.ts'

/**
 * What machines say from now on, read from their hosts once however many people follow it. A stream is open while somebody
 * follows its machine, and opened again when it breaks.
 */
export interface LogHub {
  /** Hears until `leave` is called. `heard` must not block: a slow reader is its own affair. */
  follow(machine: MachineId, host: Host, follower: LogFollower): { leave(): void }
  /** Streams that are open. */
  size(): number
}

export interface LogFollower {
  readonly line: (line: LogLine) => void
  /** From now on every line is heard: what is asked of the host as past from here on leaves no gap. Called after each break. */
  readonly live: () => void
  /** The host does not answer, or has never heard this machine. It is tried again. */
  readonly silent: (error: unknown) => void
}

const PAUSE_MS = 1_000

export function createLogHub(deps: {
  readonly agent: (host: Host) => PeerClient
  readonly clock: Clock
}): LogHub {
  const streams = new Map<MachineId, Stream>()

  interface Stream {
    readonly followers: Set<LogFollower>
    readonly ended: AbortController
    live: boolean
  }

  async function read(id: MachineId, host: Host, stream: Stream): Promise<void> {
    const { signal } = stream.ended
    const request: LogRequest = { machine: id, follow: true, lines: 0 }
    while (!signal.aborted) {
      try {
        for await (const line of machineLogs(deps.agent(host), request, signal)) {
          if (line === null) {
            if (!stream.live) for (const follower of stream.followers) follower.live()
            stream.live = true
            continue
          }
          for (const follower of stream.followers) follower.line(line)
        }
      } catch (error) {
        if (!signal.aborted) for (const follower of stream.followers) follower.silent(error)
      }
      stream.live = false
      await deps.clock.sleep(PAUSE_MS, signal)
    }
  }

  return {
    follow(machine, host, follower) {
      let stream = streams.get(machine)
      if (stream === undefined) {
        stream = { followers: new Set(), ended: new AbortController(), live: false }
        streams.set(machine, stream)
        void read(machine, host, stream)
      }
      const joined = stream
      joined.followers.add(follower)
      if (joined.live) follower.live()
      return {
        leave() {
          joined.followers.delete(follower)
          if (joined.followers.size > 0 || joined.ended.signal.aborted) return
          joined.ended.abort()
          if (streams.get(machine) === joined) streams.delete(machine)
        },
      }
    },
    size: () => streams.size,
  }
}
