import { type Loop, startLoop } from '@roost/base'
import type { Host, HostId, Instant } from '@roost/core'
import type { Deps } from '../deps.ts'
import { commandMachine } from '../machine/command.ts'
import { addEvent } from '../machine/events.ts'
import { listHosts } from '../store/hosts.ts'
import { getMachine, listMachines, type StoredMachine } from '../store/machines.ts'

const PERIOD_MS = 5_000
/** Longer than an agent that is restarted or upgraded is away. */
export const LOST_MS = 30_000

type Needs = Pick<Deps, 'store' | 'clock' | 'log' | 'presence'>

/** Starts machines that stand by for one whose host is lost. */
export function startStandbyLap(deps: Needs): Loop {
  return startLoop({
    name: 'standbys',
    periodMs: PERIOD_MS,
    clock: deps.clock,
    log: deps.log,
    lap: () => startStandbys(deps),
  })
}

/**
 * One lap. Lost is a host that this server has not heard for 30 s: whether its machines still run, nobody knows, so both may
 * run at the same time. Nothing is stopped when it comes back.
 */
export async function startStandbys(deps: Needs): Promise<void> {
  const { store, clock, presence } = deps
  const now = clock.now()
  const hosts = await store.read(listHosts)
  const lost = new Set<HostId>(
    hosts.filter((host) => isLost(host, presence.agentSeenAt(host.id), now)).map(({ id }) => id),
  )
  if (lost.size === 0) return
  const waiting = (await store.read((reader) => listMachines(reader, {}))).filter(
    (machine) => isWaiting(machine) && !lost.has(machine.assignment.host),
  )
  for (const { assignment } of waiting)
    await store.transaction(async (tx) => {
      const standby = await getMachine(tx, assignment.id)
      if (standby === null || !isWaiting(standby)) return
      for (const id of assignment.config.standbys ?? []) {
        const stoodFor = await getMachine(tx, id)
        if (stoodFor === null || stoodFor.assignment.goal !== 'started') continue
        const host = hosts.find((one) => one.id === stoodFor.assignment.host)
        if (host === undefined || !lost.has(host.id)) continue
        await commandMachine(
          tx,
          standby,
          { kind: 'start' },
          { now, source: 'flyd', evenLeased: true },
        )
        await addEvent(tx, assignment.id, {
          type: 'start',
          status: 'starting',
          source: 'flyd',
          timestamp: now,
          message: `it stands by for ${id}, whose host ${host.name} has not been heard for ${LOST_MS / 1000} s`,
        })
        deps.log.info('standby started', { machine: assignment.id, for: id, host: host.name })
        return
      }
    })
}

function isLost({ status }: Host, seenAt: Instant, now: Instant): boolean {
  return status === 'unreachable' && now - seenAt > LOST_MS
}

/** It was made to stand by, and nobody has started or stopped it since. */
function isWaiting({ assignment, destroyedAt }: StoredMachine): boolean {
  const { goal, config } = assignment
  return destroyedAt === null && goal === 'created' && (config.standbys?.length ?? 0) > 0
}
