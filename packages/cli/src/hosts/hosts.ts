import { formatBytes } from '@roost/core'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { connect } from '../session/connect.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent.command('hosts').description('Hosts, their state and what is free on them')
  explained(command, {
    examples: ['roost hosts', 'roost hosts --json | jq \'.[] | select(.status != "ok")\''],
    json: `[{id, name, region, number, status: ok|unreachable, availability: active|draining, public_address, mesh_address,
 cpus, memory_mb, free_memory_mb, machines, builder, disk: {path, state: ok|low|full, bytes, free_bytes}|null,
 agent_seen_at, edge_seen_at}]`,
  })
  command.action(async (options: { json?: boolean }) => {
    const hosts = await connect(context).listHosts()
    if (options.json) return printJson(context, hosts)
    if (hosts.length === 0) {
      context.stdout.write('No hosts yet. Make this machine one: roost up --region CODE\n')
      return
    }
    const style = styleOf(context, context.stdout)
    const rows = hosts.map((host) => [
      host.name,
      host.region,
      host.status === 'ok' ? style.green('ok') : style.red(host.status),
      host.availability,
      host.public_address,
      String(host.machines),
      `${host.free_memory_mb} of ${host.memory_mb} MB`,
      diskCell(style, host.disk),
      host.agent_seen_at === null ? 'never' : ago(host.agent_seen_at),
    ])
    const headings = [
      'NAME',
      'REGION',
      'STATUS',
      'AVAILABILITY',
      'ADDRESS',
      'MACHINES',
      'FREE MEMORY',
      'FREE DISK',
      'SEEN',
    ]
    context.stdout.write(`${tableText(headings, rows, context.stdout)}\n`)
  })
}

/** Of its fullest file system. */
function diskCell(
  style: ReturnType<typeof styleOf>,
  disk: { state: 'ok' | 'low' | 'full'; bytes: number; free_bytes: number } | null | undefined,
): string {
  if (!disk) return ''
  const free = `${formatBytes(disk.free_bytes)} of ${formatBytes(disk.bytes)}`
  if (disk.state === 'ok') return free
  return disk.state === 'low' ? style.yellow(`${free}, low`) : style.red(`${free}, full`)
}
