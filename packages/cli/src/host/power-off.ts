import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type HostSpec, layoutOf } from './layout.ts'
import { killProcesses } from './processes.ts'
import {
  clearNetns,
  detachLoopsBelow,
  removeCgroups,
  removeNetns,
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
  await removeNetns(layout.builderNetns)
  if (spec.netns !== null) await clearNetns(spec.netns, ['lo', 'eth0'])
  removeCgroups(layout.cgroupParent)
}
