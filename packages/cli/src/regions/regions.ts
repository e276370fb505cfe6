import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { connect } from '../session/connect.ts'
import { tableText } from '../terminal/table.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('regions')
    .description('Regions with hosts, and what is free there')
  explained(command, {
    examples: ['roost regions', "roost regions --json | jq -r '.[].code'"],
    json: '[{code, name, latitude, longitude, hosts, free_memory_mb}]',
  })
  command.action(async (options: { json?: boolean }) => {
    const regions = await connect(context).listRegions()
    if (options.json) return printJson(context, regions)
    if (regions.length === 0) {
      context.stdout.write('No hosts yet. Make this machine one: roost up --region CODE\n')
      return
    }
    const rows = regions.map(({ code, name, hosts, free_memory_mb }) => [
      code,
      name,
      String(hosts),
      `${free_memory_mb} MB`,
    ])
    const headings = ['CODE', 'NAME', 'HOSTS', 'FREE MEMORY']
    context.stdout.write(`${tableText(headings, rows, context.stdout)}\n`)
  })
}
