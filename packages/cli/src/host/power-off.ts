import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type HostLayout, type HostSpec, layoutOf } from './layout.ts'
import { killProcesses } from './processes.ts'
import {
  clearNetns,
  detachLoopsBelow,
  devicesIn,
  nftTables,
  removeCgroups,
  removeDevice,
  removeNetns,
  removeNftTable,
  shimSocketsOf,
  unmountBelow,
} from './sweep.ts'

/**
 * A host as it is after its power was cut: no process, and nothing of what lived in memory only (mounts, network devices, filter rules,
 * cgroups, everything on its tmpfs). Files on disk stay.
 */
export async function powerOff(spec: HostSpec): Promise<void> {
  const layout = layoutOf(spec)
  await killProcesses({
    owner: layout.owner,
    netns: [...(spec.netns === null ? [] : [spec.netns]), layout.builderNetns],
    cgroup: layout.cgroupParent,
  })
  const sockets = shimSocketsOf(layout.containerd.state)
  const machines = await machineIdsOf(spec, layout)
  if (existsSync(spec.runDir)) {
    // The folder itself may be a mount point or lie on one; only what is in it goes.
    for (const name of readdirSync(spec.runDir)) {
      const path = join(spec.runDir, name)
      await unmountBelow(path)
      rmSync(path, { recursive: true, force: true })
    }
  }
  await unmountBelow(spec.dataDir)
  await detachLoopsBelow(spec.dataDir)
  await detachLoopsBelow(spec.runDir)
  for (const socket of sockets) rmSync(socket, { force: true })
  rmSync(`/run/wireguard/${spec.wireguard.interface}.sock`, { force: true })
  for (const id of machines) await removeNetns(`roost-${id}`)
  await removeNetns(layout.builderNetns)
  if (spec.netns === null) await clearOwnNamespace(spec, layout, machines)
  else await clearNetns(spec.netns, ['lo', 'eth0'])
  removeCgroups(layout.cgroupParent)
  removeCgroups(layout.programsCgroup)
}

const MACHINE = /^[0-9a-f]{14}$/
/** The agent's names: a machine's namespace is `roost-<id>`, its link `v<id>`, the firewall `inet roost`. */
const FIREWALL = 'roost'

/** Machines of which a namespace or a link may be left. */
async function machineIdsOf(spec: HostSpec, layout: HostLayout): Promise<string[]> {
  const noted = ['machines', 'links'].flatMap((folder) => {
    const path = join(layout.runDirOf('agent'), folder)
    return existsSync(path) ? readdirSync(path) : []
  })
  const links = (await devicesIn(spec.netns)).flatMap((name) =>
    name.startsWith('v') ? name.slice(1) : [],
  )
  return [...new Set([...noted, ...links])].filter((id) => MACHINE.test(id))
}

/** On a real host there is more than Roost: only what the agent made goes. */
async function clearOwnNamespace(
  spec: HostSpec,
  layout: HostLayout,
  machines: readonly string[],
): Promise<void> {
  for (const id of machines) await removeDevice(`v${id}`)
  await removeDevice(spec.wireguard.interface)
  await removeNftTable('inet', FIREWALL)
  for (const table of await nftTables('ip'))
    if (table.startsWith('roost_edge_')) await removeNftTable('ip', table)
  // The agent names the firewall of its builds after their namespace.
  await removeNftTable('ip', `roost_${layout.builderNetns.replace(/[^a-zA-Z0-9]/g, '_')}`)
}
