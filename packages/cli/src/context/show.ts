import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { chosenServer } from '../session/connect.ts'
import { contextsFile } from '../session/contexts.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('show')
    .description('Which server commands speak to from here, and who said so; asks no server')
  explained(command, {
    examples: ['roost context show', 'roost context show --context playground'],
    json: '{url, from: ROOST_API_URL or the name of a context, file}',
  })
  command.action((options: { json?: boolean }) => {
    const { url, from } = chosenServer(context)
    const file = contextsFile(context.env)
    if (options.json) return printJson(context, { url, from, file })
    context.stdout.write(
      `${url}, by ${from === 'ROOST_API_URL' ? from : `the context ${from} in ${file}`}\n`,
    )
  })
}
