import type { Command } from 'commander'
import type { CliContext } from './cli-context.ts'

/** Options that many commands have, worded once. */
export function appOption(command: Command): Command {
  return command
    .option('-a, --app <name>', 'the app; else ROOST_APP, else the one in fly.toml')
    .option('-c, --config <file>', 'the fly.toml to take the app from')
}

/** Examples, and what `--json` gives: its fields stay; new ones may be added. */
export function explained(
  command: Command,
  about: { readonly examples: readonly string[]; readonly json?: string },
): Command {
  if (about.json !== undefined) command.option('--json', 'print JSON')
  const examples = about.examples.map((example) => `  $ ${example}`).join('\n')
  const json = about.json === undefined ? '' : `\n\nJSON:\n  ${about.json.replaceAll('\n', '\n  ')}`
  return command.addHelpText('after', `\nExamples:\n${examples}${json}\n`)
}

export function printJson(context: CliContext, value: unknown): void {
  context.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}
