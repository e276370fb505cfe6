/** Text as roff prints it and not as it obeys it. */
export function roffText(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/’/g, '\\(cq')
    .replace(/…/g, '...')
    .split('\n')
    .map((line) => (/^[.']/.test(line) ? `\\&${line}` : line))
    .join('\n')
}

export interface ManualCommand {
  readonly words: string
  readonly usage: string
  readonly about: string
  readonly options: readonly { readonly flags: string; readonly about: string }[]
  readonly examples: readonly string[]
}

/** roost(1), by man(7). */
export function manualPage(manual: {
  readonly version: string
  readonly groups: readonly {
    readonly title: string
    readonly commands: readonly ManualCommand[]
  }[]
  readonly environment: readonly (readonly [name: string, about: string])[]
  readonly exitCodes: readonly (readonly [code: string, about: string])[]
}): string {
  const lines = [
    `.TH ROOST 1 "" "Roost ${roffText(manual.version)}" "User Commands"`,
    '.SH NAME',
    'roost \\- run a Dockerfile on servers that you own, in several regions',
    '.SH SYNOPSIS',
    '.B roost',
    '.I COMMAND',
    '[options]',
    '.SH DESCRIPTION',
    'Every command explains itself with \\fB\\-\\-help\\fR. Most know \\fB\\-\\-json\\fR; all know \\fB\\-\\-context\\fR \\fINAME\\fR, the server to use.',
  ]
  for (const { title, commands } of manual.groups) {
    lines.push(`.SH ${roffText(title).toUpperCase()}`)
    for (const command of commands) {
      lines.push(`.SS roost ${roffText(command.words)} ${roffText(command.usage)}`)
      lines.push(roffText(command.about))
      for (const { flags, about } of command.options)
        lines.push('.TP', `.B ${roffText(flags)}`, roffText(about))
      if (command.examples.length > 0)
        lines.push('.PP', '.nf', ...command.examples.map((one) => `  ${roffText(one)}`), '.fi')
    }
  }
  const terms = (rows: readonly (readonly [string, string])[]) =>
    rows.flatMap(([name, about]) => ['.TP', `.B ${roffText(name)}`, roffText(about)])
  lines.push('.SH ENVIRONMENT', ...terms(manual.environment))
  lines.push('.SH EXIT STATUS', ...terms(manual.exitCodes))
  return `${lines.join('\n')}\n`
}
