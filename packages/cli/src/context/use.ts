import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { knownContext, switchContext } from '../session/contexts.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('use')
    .description('Speak to another server from now on; for one command: --context NAME')
    .argument('<name>', 'as roost context list shows it')
  explained(command, {
    examples: ['roost context use production', 'roost status --context playground'],
    json: '{name, url}',
  })
  command.action((said: string, options: { json?: boolean }) => {
    const { name, url } = knownContext(said, context.env)
    switchContext(name, context.env)
    if (options.json) return printJson(context, { name, url })
    context.stdout.write(`Now in use: ${name} (${url}).\n`)
    if (context.env['ROOST_API_URL'])
      context.stderr.write('ROOST_API_URL is set, and goes before it.\n')
  })
}
