import { PlatformError } from '@roost/base'
import { type AppName, claimsOf, type MachineConfig, portText, takenPort } from '@roost/core'
import { listMachines } from '../store/machines.ts'
import type { Reader } from '../store/store.ts'

/** A port that is not told apart by names belongs to one app: the edges have one address each. Throws `conflict`, and says who has it. */
export async function refuseTakenPorts(
  reader: Reader,
  app: AppName,
  configs: readonly Pick<MachineConfig, 'services'>[],
): Promise<void> {
  const services = configs.flatMap((config) => config.services)
  // Apps that serve the web and nothing else, which are most, need not be compared.
  if (claimsOf(services).length === 0) return
  const others = (await listMachines(reader, {})).flatMap(({ assignment, appDestroyed }) =>
    assignment.app === app || appDestroyed || assignment.goal === 'destroyed'
      ? []
      : [{ app: assignment.app, services: assignment.config.services }],
  )
  const taken = takenPort(services, others)
  if (taken !== null)
    throw new PlatformError(
      'conflict',
      `port ${portText(taken.claim)} belongs to the app ${taken.app}: choose another`,
    )
}
