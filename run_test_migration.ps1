<#
.SYNOPSIS
Rehearse the migration; without arguments on an embedded DynamoDB.
.DESCRIPTION
.\run_test_migration.ps1 [config_file] [limit] [flags of the migration] [-Yes]
Finds a Python; guided_run.py does the rest, on every system the same.
.PARAMETER Yes
Ask nothing, answer yes; the same as --yes.
#>
[CmdletBinding()]
param(
    [Parameter(ValueFromRemainingArguments = $true)]
    [string[]] $Arguments,
    [switch] $Yes,
    [switch] $Help
)

# Windows PowerShell 5.1 with 'Stop' ends at the first line that a program writes to stderr.
$ErrorActionPreference = 'Continue'

function Exit-WithError([int] $Status, [string] $Cause, [string] $Fix) {
    foreach ($line in "error: $Cause", "  Fix: $Fix") {
        # Other hosts have no console that anybody sees.
        if ($Host.Name -eq 'ConsoleHost') { [Console]::Error.WriteLine($line) } else { $Host.UI.WriteErrorLine($line) }
    }
    exit $Status
}

# There no question can be shown, and Python would take it that nobody can be asked.
if (@('Windows PowerShell ISE Host', 'ServerRemoteHost') -contains $Host.Name -and
    -not ($Yes -or $Help -or ($Arguments -match '^--(yes|help|version|dry-run)$'))) {
    Exit-WithError 2 "No question can be shown in $($Host.Name)." 'use a window of PowerShell, or give -Yes to mean yes.'
}

# 5.1 drops an empty argument on its way to a program, and the default configuration would be taken.
if ($PSBoundParameters.ContainsKey('Arguments') -and (-not $Arguments -or $Arguments -contains '')) {
    Exit-WithError 2 'An argument is empty.' 'give it a value: was a variable not set?'
}

$guide = Join-Path $PSScriptRoot 'guided_run.py'
if (-not (Test-Path -LiteralPath $guide)) {
    Exit-WithError 2 "guided_run.py is missing in $PSScriptRoot." 'keep all files of this tool in one folder.'
}

$guided = @($guide, 'rehearse')
# 5.1 does not escape a backslash before the quote that it puts around an argument with a space.
if ($Arguments) { $guided += $Arguments -replace '(\s.*?)\\+$', '$1' }
if ($Yes) { $guided += '--yes' }
if ($Help) { $guided += '--help' }

# 'python' first: an active environment has it on every system.
foreach ($candidate in @(@('python'), @('py', '-3'), @('python3'))) {
    $name = $candidate[0]
    $options = @($candidate | Select-Object -Skip 1)
    if (-not (Get-Command $name -CommandType Application -ErrorAction SilentlyContinue)) { continue }
    # Stays so when the program cannot even start.
    $global:LASTEXITCODE = -1
    & $name @options -c 'import sys; sys.exit(sys.version_info < (3, 6))' *> $null
    if ($LASTEXITCODE -eq 0) {
        & $name @options @guided
        # STATUS_CONTROL_C_EXIT: Ctrl-C while Python was starting.
        if ($LASTEXITCODE -eq -1073741510) { exit 130 }
        exit $LASTEXITCODE
    }
}

Exit-WithError 3 'No Python 3.6 or newer was found as python, py or python3.' 'install Python 3 and make sure that it is on the PATH.'
