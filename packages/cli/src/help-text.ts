import { COMMANDS, NOUNS } from './command-table.ts'

export const ENVIRONMENT = [
  ['ROOST_API_URL, ROOST_API_TOKEN', 'server and token; else those of auth login'],
  ['ROOST_API_CA', 'path of its authority in PEM'],
  ['ROOST_CONTEXT', 'a server by its name, as --context NAME'],
  ['ROOST_APP', 'the app, where -a is not given'],
  ['NO_COLOR', 'no colours'],
] as const

/** `roost --help`: made from the table alone, so that it needs nothing loaded. */
export function helpText(): string {
  const groups = COMMANDS.map(({ title, commands }) => {
    const lines = new Map<string, string>()
    for (const { words, summary } of commands)
      lines.set(words[0], words[1] === undefined ? summary : (NOUNS[words[0]] ?? summary))
    const rows = [...lines].map(([word, summary]) => `  ${word.padEnd(12)} ${summary}`)
    return `${title}:\n${rows.join('\n')}`
  })
  const environment = ENVIRONMENT.map(([name, about]) => `  ${name.padEnd(32)} ${about}`).join('\n')
  return `Roost runs a Dockerfile on servers that you own, in several regions.

Usage: roost COMMAND [options]

${groups.join('\n\n')}

Each command explains itself: roost COMMAND --help. Most know --json; all know
--context NAME, the server to use (roost context list).

Begin with:
  $ roost playground up --regions ams,iad,syd   # three simulated hosts
  $ cd my-app && roost launch                   # a folder with a Dockerfile

Environment:
${environment}
`
}
