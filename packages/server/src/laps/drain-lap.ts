import { type Clock, type Logger, type Loop, startLoop } from '@roost/base'
import type { Assignment, MachineId, Revision } from '@roost/core'
import { CompiledQuery } from 'kysely'
import { commandMachine } from '../machine/command.ts'
import { listHosts } from '../store/hosts.ts'
import { getMachine } from '../store/machines.ts'
import type { Reader, Store } from '../store/store.ts'
import type { Presence } from '../watch/presence.ts'
import { allDrained, edgesInCharge } from './edges-in-charge.ts'

const PERIOD_MS = 1_000
/** Few drain at a time: the others are not worth parsing. As text, since building a query costs more than running it. */
const MAYBE_DRAINING = CompiledQuery.raw(
  `select assignment from machines where destroyed_at is null and instr(assignment, '"drain":{') > 0`,
) as CompiledQuery<{ assignment: string }>

/**
 * Lets machines that left rotation be stopped: as soon as every edge that lives has taken them out and reports nobody on
 * them. Their hosts wait for that until the drain's deadline and not longer, so nothing here can keep one alive.
 */
export function startDrainLap(deps: {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly presence: Presence
}): Loop {
  const { store, clock, log, presence } = deps
  const startedAt = clock.now() - presence.movedMs()
  /** The revision that took each draining machine out of rotation, as first seen: later ones would only ask for more. */
  const leftAt = new Map<MachineId, Revision>()

  const loop = startLoop({
    name: 'drains',
    periodMs: PERIOD_MS,
    clock,
    log,
    lap: async (signal) => {
      const draining = await store.read(listDraining)
      for (const id of leftAt.keys()) if (!draining.some((d) => d.id === id)) leftAt.delete(id)
      if (draining.length === 0) return
      const hosts = await store.read(listHosts)
      const edges = edgesInCharge(presence, hosts, startedAt + presence.movedMs(), clock.now())
      for (const { id, revision } of draining) {
        if (signal.aborted) return
        const left = leftAt.get(id) ?? revision
        leftAt.set(id, left)
        if (!allDrained(edges, left, id)) continue
        await store.transaction(async (tx) => {
          const machine = await getMachine(tx, id)
          if (machine === null || machine.destroyedAt !== null) return
          const by = { now: clock.now(), source: 'flyd' } as const
          await commandMachine(tx, machine, { kind: 'drained' }, by)
        })
      }
    },
  })
  const ends = [
    store.onChange(({ keys }) => {
      for (const key of keys)
        if (key.startsWith('machine/')) {
          loop.wake()
          return
        }
    }),
    presence.onProgress(() => loop.wake()),
  ]
  return {
    wake: loop.wake,
    stop: async () => {
      for (const end of ends) end()
      await loop.stop()
    },
  }
}

function listDraining(reader: Reader): Promise<readonly { id: MachineId; revision: Revision }[]> {
  return reader.kept('draining', async () => {
    const { rows } = await reader.db.executeQuery(MAYBE_DRAINING)
    const ids = rows.flatMap(({ assignment }) => {
      const { id, drain } = JSON.parse(assignment) as Assignment
      return drain === null || drain.done ? [] : [id]
    })
    if (ids.length === 0) return []
    const views = await reader.db
      .selectFrom('records')
      .select(['id', 'revision'])
      .where('kind', '=', 'machine')
      .where('id', 'in', ids)
      .execute()
    return views.map(({ id, revision }) => ({ id: id as MachineId, revision }))
  })
}
