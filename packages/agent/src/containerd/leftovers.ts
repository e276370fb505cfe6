import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { ContainerdClient } from './client.ts'
import { containers, content, leases, snapshots, tasks } from './generated/index.js'
import type { TrialHost } from './trial-host.ts'

/** What is there of machines, wherever on a trial host their names can be, or of pulls. For tests: nobody should miss anything. */
export async function leftoversOf(
  host: Pick<TrialHost, 'runDir' | 'rawLogs' | 'cgroupParent'>,
  client: ContainerdClient,
  ...ids: readonly MachineId[]
): Promise<readonly string[]> {
  const [found, running, held, { statuses }, kept, rules] = await Promise.all([
    client.call(containers.ContainersService.list, { filters: [] }),
    client.call(tasks.TasksService.list, { filter: '' }),
    client.call(leases.LeasesService.list, { filters: [] }),
    client.call(content.ContentService.listStatuses, { filters: [] }),
    client.collect(snapshots.SnapshotsService.list, { snapshotter: 'overlayfs', filters: [] }),
    runCommand(['nft', 'list', 'ruleset']),
  ])
  const isOfOne = (name: string) => ids.some((id) => name.includes(id))
  const has = (what: string, there: readonly string[]) =>
    there.filter(isOfOne).map((name) => `${what} ${name}`)
  const names = (folder: string) => {
    try {
      return readdirSync(folder)
    } catch {
      return []
    }
  }
  return [
    ...has(
      'container',
      found.containers.map((container) => container.id),
    ),
    ...has(
      'task',
      running.tasks.map((task) => task.id),
    ),
    ...held.leases.map((lease) => `lease ${lease.id}`),
    ...statuses.map(({ ref }) => `download ${ref}`),
    ...kept
      .flatMap(({ info }) => info.map(({ name }) => name))
      .filter((name) => isOfOne(name) || name.startsWith('roost-extract-'))
      .map((name) => `snapshot ${name}`),
    ...has('namespace', names('/run/netns')),
    ...has('link', readFileSync('/proc/net/dev', 'utf8').split('\n')),
    ...has('rule', rules.stdout.split('\n')),
    ...has('state of a link', names(join(host.runDir, 'links'))),
    ...has('directory', names(join(host.runDir, 'machines'))),
    ...has('log', names(host.rawLogs)),
    ...has('state of runc', names(join(host.runDir, 'runc/roost'))),
    ...has('bundle', names(join(host.runDir, 'containerd/io.containerd.runtime.v2.task/roost'))),
    ...names('/sys/fs/cgroup').flatMap((hierarchy) =>
      has('cgroup', names(join('/sys/fs/cgroup', hierarchy, host.cgroupParent))),
    ),
    ...processes().flatMap(({ pid, words, mounts }) => [
      ...(ids.some((id) => words.includes(id)) ? [`process ${pid} ${words.join(' ')}`] : []),
      ...has(`mount seen by ${pid}`, mounts),
    ]),
  ]
}

/** Each once, with the mounts of its mount namespace. */
function processes(): { pid: string; words: string[]; mounts: string[] }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
        const ours = words[0]?.includes('containerd') === true
        const mounts = ours ? readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n') : []
        return [{ pid, words, mounts }]
      } catch {
        return []
      }
    })
}
