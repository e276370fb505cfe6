import { existsSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { run } from './terminal.ts'

/**
 * What one host of a playground has of machines that nobody wants: read from containerd, the kernel and HAProxy, not through our
 * code. Empty when nothing was left behind.
 */
export async function leftovers(options: {
  readonly playground: string
  readonly region: string
  /** Machines that are wanted on this host. */
  readonly machines: readonly string[]
  /** Machines that are wanted anywhere: what the edge may send to. */
  readonly all: readonly string[]
}): Promise<string[]> {
  const { playground, region } = options
  const wanted = new Set(options.machines)
  const anywhere = new Set(options.all)
  const runDir = `/run/roost/${playground}/${region}`
  const found: string[] = []
  const only = (what: string, names: readonly string[], known: ReadonlySet<string>) => {
    for (const name of names)
      for (const id of name.match(MACHINE_ID) ?? [])
        if (!known.has(id)) found.push(`${region}: ${what} ${name}`)
  }
  const listed = async (...what: string[]) => {
    const answer = await run(['ctr', '-a', `${runDir}/containerd.sock`, '-n', 'roost', ...what], {
      timeoutMs: 10_000,
    })
    if (answer.code !== 0) throw new Error(`ctr ${what.join(' ')} in ${region}: ${answer.stderr}`)
    return answer.stdout.split('\n').map((line) => line.trim().split(/\s+/)[0] ?? '')
  }
  only('container', await listed('containers', 'ls', '-q'), wanted)
  only('task', await listed('tasks', 'ls', '-q'), wanted)
  only('snapshot', await listed('snapshots', 'ls'), wanted)
  for (const lease of await listed('leases', 'ls', '-q'))
    if (lease !== '' && !(MACHINE_ID.test(lease) && wanted.has(lease.match(MACHINE_ID)?.[0] ?? '')))
      found.push(`${region}: image lease ${lease}`)
  only('machine folder', under(`${runDir}/agent/machines`), wanted)
  for (const controller of readdirSync('/sys/fs/cgroup'))
    only(
      `cgroup in ${controller}`,
      under(`/sys/fs/cgroup/${controller}/roost/${playground}/${region}`),
      wanted,
    )
  only('server of HAProxy', await proxyServers(`${runDir}/edge/haproxy.sock`), anywhere)
  return found
}

/** Ids of all machines on this kernel that have a network namespace, of whatever host. */
export function machinesWithNamespace(): string[] {
  return under('/run/netns')
    .filter((name) => /^roost-[0-9a-f]{14}$/.test(name))
    .map((name) => name.slice('roost-'.length))
}

export function strayNamespaces(known: readonly string[]): string[] {
  return machinesWithNamespace()
    .filter((id) => !known.includes(id))
    .map((id) => `network namespace of ${id}`)
}

const MACHINE_ID = /(?<![0-9a-f])[0-9a-f]{14}(?![0-9a-f])/g

function under(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

/** Names of all servers that are entered, in whatever state. */
async function proxyServers(socket: string): Promise<string[]> {
  const text = await new Promise<string>((resolve, reject) => {
    let answer = ''
    const connection = connect(socket, () => connection.write('show servers state\n'))
    connection.setTimeout(5000, () => connection.destroy(new Error('HAProxy does not answer')))
    connection.on('data', (chunk) => {
      answer += chunk
    })
    connection.on('end', () => resolve(answer))
    connection.on('error', reject)
  })
  return text
    .split('\n')
    .slice(2)
    .map((line) => line.split(' ')[3] ?? '')
}
