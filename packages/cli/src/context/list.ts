import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { readContexts } from '../session/contexts.ts'
import { tableText } from '../terminal/table.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent.command('list').description('Servers that you are logged in to')
  explained(command, {
    examples: ['roost context list', "roost context list --json | jq -r '.[].name'"],
    json: '[{name, url, current, ca: true where it has an authority of its own}]',
  })
  command.action((options: { json?: boolean }) => {
    const { current, all } = readContexts(context.env)
    const rows = all.map(({ name, url, ca }) => ({
      name,
      url,
      current: name === current,
      ca: ca !== null,
    }))
    if (options.json) return printJson(context, rows)
    if (rows.length === 0) {
      context.stdout.write('Nobody is logged in here: roost auth login URL\n')
      return
    }
    const lines = rows.map((row) => [row.current ? '*' : '', row.name, row.url])
    context.stdout.write(`${tableText(['', 'NAME', 'SERVER'], lines, context.stdout)}\n`)
  })
}
