import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { connect } from '../session/connect.ts'
import { tableText } from '../terminal/table.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent.command('list').description('Apps that you may see')
  explained(command, {
    examples: ['roost apps list', "roost apps list --json | jq -r '.[].name'"],
    json: '[{name, status: pending|deployed|suspended, machines}]',
  })
  command.action(async (options: { json?: boolean }) => {
    const { apps } = await connect(context).listApps()
    const rows = apps.map(({ name, status, machine_count }) => ({
      name,
      status,
      machines: machine_count,
    }))
    if (options.json) return printJson(context, rows)
    if (rows.length === 0) {
      context.stdout.write('No apps yet. Make one: roost launch\n')
      return
    }
    const lines = rows.map(({ name, status, machines }) => [name, status, String(machines)])
    context.stdout.write(`${tableText(['NAME', 'STATUS', 'MACHINES'], lines, context.stdout)}\n`)
  })
}
