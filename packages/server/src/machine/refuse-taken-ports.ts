import { PlatformError } from '@roost/base'
import { type AppName, claimsOf, type MachineConfig, portText, takenPort } from '@roost/core'
import { listMachines } from '../store/machines.ts'
import type { Reader } from '../store/store.ts'

type Served = Pick<MachineConfig, 'services'>

/** A port that is not told apart by names belongs to one app: the edges have one address each. Throws `conflict`, and says who has it. */
export async function refuseTakenPorts(
  reader: Reader,
  app: AppName,
  configs: readonly Served[],
): Promise<void> {
  const why = await whyPortsTaken(reader, app, configs)
  if (why !== null) throw new PlatformError('conflict', why)
}

/** null: no other app has any of them. */
export async function whyPortsTaken(
  reader: Reader,
  app: AppName,
  configs: readonly Served[],
): Promise<string | null> {
  const services = configs.flatMap((config) => config.services)
  // Apps that serve the web and nothing else, which are most, need not be compared.
  if (claimsOf(services).length === 0) return null
  const others = (await listMachines(reader, {})).flatMap(({ assignment, appDestroyed }) =>
    assignment.app === app || appDestroyed || assignment.goal === 'destroyed'
      ? []
      : [{ app: assignment.app, services: assignment.config.services }],
  )
  const taken = takenPort(services, others)
  if (taken === null) return null
  return `port ${portText(taken.claim)} belongs to the app ${taken.app}: choose another`
}
