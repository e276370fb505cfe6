import { existsSync, rmSync } from 'node:fs'
import { forgetContext } from '../host/forget-context.ts'
import { restoreMachine } from '../host/machine-record.ts'
import { powerOff } from '../host/power-off.ts'
import { killProcesses } from '../host/processes.ts'
import {
  deadShimSockets,
  removeCgroupIfEmpty,
  removeCgroups,
  removeDevice,
  removeFolders,
  removeNetns,
  removeNftTable,
  unmountBelow,
} from '../host/sweep.ts'
import { checkName, DEFAULT_NAME, type PlaygroundPlan, stateDirOf } from './plan.ts'
import { hostSpecOf, lockPlayground, marksOf, readState } from './state.ts'

/**
 * Takes away everything of a playground, however far its `up` came and whatever was killed since. Returns false when there was none.
 */
export async function playgroundDown(
  name: string = DEFAULT_NAME,
  onProgress: (what: string) => void = () => {},
): Promise<boolean> {
  checkName(name)
  const existed = existsSync(stateDirOf(name))
  const unlock = await lockPlayground(name)
  try {
    const state = readState(name)
    if (state !== null) await removeAll(state.plan, Date.parse(state.begunAt), onProgress)
    if (state?.context) forgetContext(state.context)
    // Last: as long as it is there, another `down` knows what to remove.
    await removeFolders([stateDirOf(name)])
  } finally {
    unlock()
  }
  await restoreMachine()
  return existed
}

async function removeAll(
  plan: PlaygroundPlan,
  begunMs: number,
  say: (what: string) => void,
): Promise<void> {
  say('processes')
  await killProcesses(marksOf(plan))
  say('mounts, namespaces, cgroups')
  await Promise.all(plan.regions.map((region) => powerOff(hostSpecOf(plan, region))))
  await unmountBelow(plan.runDir)
  rmSync(plan.runDir, { recursive: true, force: true })
  await unmountBelow(plan.stateDir)
  await removeDevice(plan.machine.device)
  for (const netns of marksOf(plan).netns) await removeNetns(netns)
  await removeNftTable('ip', plan.name)
  removeCgroups(`/roost/${plan.name}`)
  removeCgroupIfEmpty('/roost')
  say('files')
  await removeFolders(plan.regions.map((region) => hostSpecOf(plan, region).dataDir))
  for (const socket of await deadShimSockets(begunMs)) rmSync(socket, { force: true })
}
